"""Pickles of arrays: what NumPy writes is read, and forged states are refused."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from vlray.storage.pickles import ArrayUnpickler

ARRAYS: list[np.ndarray] = [
    np.arange(6, dtype="<f4").reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=">i8").reshape(2, 3)),
    np.array([True, False]),
    np.array(["left", "\u00fcber"]),
    np.array([b"left", b"up"]),
    np.zeros((0, 4), np.float16),
    np.array(1.5),
    np.array([{"a": np.float32(1)}, None, "text"], object),
]


class _Reduced:
    """Object whose pickle consists of any call and any state."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def _load(data: bytes) -> Any:
    return ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()


def _dtype(code: str, *state: Any) -> _Reduced:
    return _Reduced(np.dtype, (code, False, True), state)


def _array(shape: Any, dtype: Any, data: Any) -> _Reduced:
    reconstruct = np.zeros(1).__reduce__()[0]
    return _Reduced(reconstruct, (np.ndarray, (0,), b"b"), (1, shape, dtype, False, data))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_of_every_protocol_are_read(array: np.ndarray, protocol: int) -> None:
    value = _load(pickle.dumps({"x": array, "again": array}, protocol))
    # NumPy swaps the bytes of some protocols.
    assert value["x"].dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
    assert value["x"].shape == array.shape
    np.testing.assert_array_equal(value["x"], array)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_scalars_and_bytes_are_read(protocol: int) -> None:
    values = OrderedDict(a=np.float32(0.5), b=np.int64(-3), c=np.bool_(True), d=b"\xff\x00")
    assert _load(pickle.dumps(values, protocol)) == values


def test_an_array_that_was_read_pickles_as_a_plain_array() -> None:
    value = _load(pickle.dumps(ARRAYS[0], 2))
    assert type(pickle.loads(pickle.dumps(value))) is np.ndarray


OBJECTS = np.dtype(object)
FORGED: dict[str, _Reduced] = {
    "an object dtype without its flag": _array(
        (1,), _dtype("O8", 3, "|", None, None, None, -1, -1, 0), b"\x41" * 8
    ),
    "addresses as objects": _array((2,), OBJECTS, b"\x41" * 16),
    "fewer objects than the shape": _array((1000,), OBJECTS, [1]),
    "fewer bytes than the shape": _array((1000,), np.dtype("f4"), b"\x00" * 4),
    "a negative side": _array((-1,), np.dtype("f4"), b""),
    "a shape of other types": _array((2.0,), np.dtype("f4"), b"\x00" * 8),
    "a larger item": _array(
        (1,), _dtype("f4", 3, "<", None, ("a",), {"a": (np.dtype("f8"), 90)}, 4, 4, 0), b"\x00" * 4
    ),
    "a subarray": _array(
        (1,), _dtype("V8", 3, "|", (np.dtype("f4"), (2,)), None, None, 8, 1, 0), b"\x00" * 8
    ),
    "a record": _array((1,), np.dtype([("a", "f4")]), b"\x00" * 4),
    "a date": _array((1,), np.dtype("M8[s]"), b"\x00" * 8),
    "a list in the place of a dtype": _array((1,), [], b"\x00" * 8),
    "an object as a scalar": _Reduced(np.float32(1).__reduce__()[0], (OBJECTS, 7)),
    "a long scalar": _Reduced(np.float32(1).__reduce__()[0], (np.dtype("f4"), b"\x00" * 99)),
    "an allocation without content": _Reduced(np.ndarray, ((1 << 40,),)),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_forged_state_is_refused(forged: _Reduced, protocol: int) -> None:
    with pytest.raises((pickle.UnpicklingError, TypeError)):
        _load(pickle.dumps({"x": forged}, protocol))


def test_other_globals_are_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match="GLOBAL posix"):
        _load(pickle.dumps(_Reduced(__import__("os").getcwd, ())))
