"""Pickles of region files: arrays come out of them, and no code runs."""

from __future__ import annotations

import builtins
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vlray.formats.readers.pickles import read_object_npy, require_trust, unpickle, unpickle_dict

PLAIN = {
    "boxes": np.eye(4, dtype=np.float32),
    "n": np.int64(3),
    "ids": [b"a", "b"],
    "x": (1.5, None),
}


class Calls:
    """Unpickles by calling something."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> Any:
        return self.function, self.args


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_numbers_and_strings_come_out_as_they_went_in(protocol: int) -> None:
    got = unpickle_dict(pickle.dumps(PLAIN, protocol), "it")
    np.testing.assert_array_equal(got.pop("boxes"), PLAIN["boxes"])
    assert got == {"n": 3, "ids": [b"a", "b"], "x": (1.5, None)}


def test_the_names_of_older_numpy_are_known() -> None:
    data = pickle.dumps(PLAIN, 2)
    assert b"numpy._core.multiarray" in data
    got = unpickle_dict(data.replace(b"numpy._core", b"numpy.core"), "it")
    np.testing.assert_array_equal(got["boxes"], PLAIN["boxes"])


def test_tensors_are_passed_over() -> None:
    got = unpickle_dict(pickle.dumps({"a": torch.ones(3), "b": np.ones(2)}), "it")
    np.testing.assert_array_equal(got["b"], [1, 1])
    assert not isinstance(got["a"], torch.Tensor)


@pytest.mark.parametrize(
    ("evil", "wanted"),
    [
        (Calls(builtins.eval, "1 + 1"), "builtins.eval"),
        (Calls(builtins.open, "/dev/null"), "io.open"),
        (Calls(builtins.getattr, 1, "real"), "builtins.getattr"),
        (Calls(np.load, "/dev/null"), "numpy.load"),
        (Calls(torch.load, "/dev/null"), "torch.serialization.load"),
        (Path("a"), "pathlib."),
    ],
    ids=["eval", "open", "getattr", "numpy-load", "torch-load", "path"],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_whatever_else_is_wanted_is_refused_by_name(evil: Any, wanted: str, protocol: int) -> None:
    data = pickle.dumps({"boxes": np.eye(4), "extra": evil}, protocol)
    if protocol < 3:  # as Python 2 calls them
        wanted = wanted.replace("builtins", "__builtin__")
    with pytest.raises(ValueError, match=rf"info of a imports .*{wanted.split('.')[-1]}.*no code"):
        unpickle(data, "info of a")


def test_a_pickle_inside_a_tensor_is_not_opened() -> None:
    inner = pickle.dumps(Calls(builtins.eval, "1 / 0"))
    data = pickle.dumps(Calls(torch.storage._load_from_bytes, inner))
    assert unpickle(data, "it") == "torch tensor, not read"


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_a_damaged_pickle_is_named(cut: int) -> None:
    with pytest.raises(ValueError, match="value of 7 is a damaged pickle"):
        unpickle(pickle.dumps(PLAIN)[:cut], "the value of 7")


def test_something_else_than_a_dictionary_is_named() -> None:
    with pytest.raises(ValueError, match="it has type list, not dict"):
        unpickle_dict(pickle.dumps([1]), "it")


def _npy(value: Any) -> io.BytesIO:
    file = io.BytesIO()
    np.save(file, value)
    file.seek(0)
    return file


def test_a_dictionary_that_numpy_saved_is_read() -> None:
    got = read_object_npy(_npy(np.array(PLAIN, dtype=object)), "it")
    np.testing.assert_array_equal(got["boxes"], PLAIN["boxes"])


def test_another_array_is_named() -> None:
    with pytest.raises(ValueError, match="info is an array of float64"):
        read_object_npy(_npy(np.ones(3)), "info")
    with pytest.raises(ValueError, match=r"not dict|not a dictionary"):
        read_object_npy(_npy(np.array([1, "a"], dtype=object)), "info")
    with pytest.raises(ValueError, match=r"info is a damaged \.npy"):
        read_object_npy(io.BytesIO(b"nothing"), "info")


def test_trust_is_asked_for_with_the_flag_the_risk_and_the_gain(tmp_path: Path) -> None:
    require_trust(True, tmp_path, "a form")
    with pytest.raises(ValueError, match=r"run code.*pass --trust-pickle"):
        require_trust(False, tmp_path, "a form")
