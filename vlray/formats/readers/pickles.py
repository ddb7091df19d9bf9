"""Open pickles in region files, with the user's consent and without running code from them."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vlray.storage.pickles import ArrayUnpickler

LABELS_NEED_TRUST = "labels-need-trust-pickle"
"""Remark for an image whose labels were not read because they are pickled."""

_TENSOR_GLOBALS = ("torch._utils._rebuild_tensor_v2", "torch.storage._load_from_bytes")


def require_trust(trust_pickle: bool, source: Path, form: str) -> None:
    """Refuse a source that cannot be read without unpickling, unless the user trusts it.

    Args:
        trust_pickle: Whether the user trusts the source.
        source: The file or folder, for the message.
        form: What the source is, for the message.

    Raises:
        ValueError: ``trust_pickle`` is off.
    """
    if not trust_pickle:
        raise ValueError(
            f"{source} is {form} with pickled content, and opening a pickle can run code. If you "
            "trust the source of the file, pass --trust-pickle. Even then, vlray reads only "
            "arrays, numbers and strings, and refuses the rest"
        )


def unpickle(data: bytes | BinaryIO, what: str) -> Any:
    """Open a pickle that contains only arrays, numbers, strings and containers of them.

    Torch tensors are replaced with a placeholder, since no format needs their values.

    Args:
        data: The pickle; a file is read from the current position.
        what: Name of the pickle in error messages.

    Raises:
        ValueError: The pickle is damaged, or imports something else; the message names the import.
    """
    try:
        file = io.BytesIO(data) if isinstance(data, bytes) else data
        # Arrays pickled by Python 2 can only be read as latin1.
        return _RegionUnpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle can raise anything
        refused = re.search(r"GLOBAL (\S+)", str(error))
        if refused is None:
            raise ValueError(f"{what} is a damaged pickle: {error}") from error
        raise ValueError(
            f"{what} imports {refused[1]}, but vlray runs no code from pickles. If you trust the "
            "file, open it in Python and save its arrays without that import"
        ) from error


def unpickle_dict(data: bytes | BinaryIO, what: str) -> dict[str, Any]:
    """Open a pickled dictionary.

    Raises:
        ValueError: As for ``unpickle``, or if the content is not a dictionary.
    """
    value = unpickle(data, what)
    if not isinstance(value, dict):
        raise ValueError(f"{what} has type {type(value).__name__}, not dict")
    return value


def read_object_npy(file: BinaryIO, what: str) -> dict[str, Any]:
    """Read a dictionary that ``numpy.save`` wrapped in an array: a header, then a pickle.

    Raises:
        ValueError: The file is damaged, or its content is not a single dictionary.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            _, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            _, _, dtype = np.lib.format.read_array_header_2_0(file)
    except Exception as error:  # from numpy, or from the zip archive that contains the file
        raise ValueError(f"{what} is a damaged .npy: {error}") from error
    if not dtype.hasobject:
        raise ValueError(f"{what} is an array of {dtype}, not a dictionary")
    array = unpickle(file, what)
    value = array.item() if isinstance(array, np.ndarray) and array.size == 1 else array
    if not isinstance(value, dict):
        raise ValueError(f"{what} has type {type(value).__name__}, not dict")
    return value


class _RegionUnpickler(ArrayUnpickler):
    """Unpickler that replaces torch tensors with a placeholder instead of refusing the pickle.

    MILVLG's Detectron2 mode stores attribute scores as tensors next to the arrays. A tensor's data
    is a nested pickle, which is not opened.
    """

    def find_class(self, module: str, name: str) -> object:
        """Return the class or function that a pickle imports.

        Raises:
            pickle.UnpicklingError: The import is not needed for arrays or tensors.
        """
        if f"{module}.{name}" in _TENSOR_GLOBALS:
            return _tensor_placeholder
        return super().find_class(module, name)


def _tensor_placeholder(*_: object) -> str:
    return "torch tensor, not read"
