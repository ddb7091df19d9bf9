"""Pickles inside region files: asked for, and even then opened without running code."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vlray.storage.pickles import ArrayUnpickler

LABELS_NEED_TRUST = "labels-need-trust-pickle"
"""The remark of an image whose labels are pickled and were left where they are."""

_TENSOR_GLOBALS = ("torch._utils._rebuild_tensor_v2", "torch.storage._load_from_bytes")


def require_trust(trust_pickle: bool, source: Path, form: str) -> None:
    """Refuse a form that is pickles through and through, unless the user trusts it.

    Raises:
        ValueError: It is not trusted.
    """
    if not trust_pickle:
        raise ValueError(
            f"{source} is {form}, and what it holds is pickled. A pickle can be made to run code "
            "when it is opened; vlray admits arrays, numbers and strings alone and refuses the "
            "rest, but asks you first. If you trust where the file comes from, give "
            "--trust-pickle: boxes, features and labels are then read"
        )


def unpickle(data: bytes | BinaryIO, what: str) -> Any:
    """Open a pickle of arrays, numbers, strings and containers of them.

    Tensors of torch come as something that is no array: no form keeps there what is needed.

    Args:
        data: The pickle; a file is read from where it stands.
        what: Names it in errors.

    Raises:
        ValueError: It is damaged, or wants something else to be imported, which is named.
    """
    try:
        file = io.BytesIO(data) if isinstance(data, bytes) else data
        return _RegionUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises anything
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted is None:
            raise ValueError(f"{what} is a damaged pickle: {error}") from error
        raise ValueError(
            f"{what} wants {wanted[1]}, and vlray runs no code out of a pickle; if you know what "
            "it is there for, open the file yourself and write its arrays alone"
        ) from error


def unpickle_dict(data: bytes | BinaryIO, what: str) -> dict[str, Any]:
    """Open a pickle that is a dictionary by names.

    Raises:
        ValueError: As ``unpickle``, or it is something else.
    """
    value = unpickle(data, what)
    if not isinstance(value, dict):
        raise ValueError(f"{what} is of type {type(value).__name__}, not a dictionary by names")
    return value


def read_object_npy(file: BinaryIO, what: str) -> dict[str, Any]:
    """Read a dictionary that ``numpy.save`` wrapped into an array: a header, then a pickle.

    Raises:
        ValueError: It is damaged, or something else than one dictionary.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            _, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            _, _, dtype = np.lib.format.read_array_header_2_0(file)
    except Exception as error:  # numpy's own kinds, and those of what it is read from
        raise ValueError(f"{what} is a damaged .npy: {error}") from error
    if not dtype.hasobject:
        raise ValueError(f"{what} is an array of {dtype}, not a dictionary by names")
    array = unpickle(file, what)
    value = array.item() if isinstance(array, np.ndarray) and array.size == 1 else array
    if not isinstance(value, dict):
        raise ValueError(f"{what} is of type {type(value).__name__}, not a dictionary by names")
    return value


class _RegionUnpickler(ArrayUnpickler):
    """Passes over torch's tensors instead of refusing them: their bytes are pickles of their own.

    MILVLG's Detectron2 mode keeps attribute scores as tensors beside what is wanted.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Refuse what is no part of an array or tensor."""
        if f"{module}.{name}" in _TENSOR_GLOBALS:
            return _passed_over
        return super().find_class(module, name)


def _passed_over(*_: Any) -> str:
    return "a tensor of torch, not read"
