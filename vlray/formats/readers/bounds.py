"""Limits on what a file may make its reader allocate: declared sizes are checked before reading."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAX_BYTES = 2**30
"""Limit on the unpacked arrays of one image; 1,000 regions of 2,048 values take 8 MB."""

_ITEM_BYTES = 32  # of a Python number with its place in a list, roughly


def check_bytes(size: int, what: str) -> None:
    """Refuse an array that is too large for one image.

    Raises:
        ValueError: The size is above `MAX_BYTES`; the message calls the array ``what``.
    """
    if size > MAX_BYTES:
        raise ValueError(
            f"{what} unpacks to {size:,} bytes, more than the limit of {MAX_BYTES:,} for one image"
        )


def array_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return the size of an array; empty strings count as one byte, as NumPy may allocate them."""
    return math.prod(shape) * max(dtype.itemsize, 1)


def declared_bytes(file: BinaryIO) -> int:
    """Read the header of a ``.npy`` file, and return the size of its array; 0 for objects.

    Raises:
        ValueError: The header is damaged.
    """
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    return 0 if dtype.hasobject else array_bytes(shape, dtype)


def load_npy(path: Path, what: str) -> np.ndarray:
    """Load a ``.npy`` file after a check of its declared size, without unpickling.

    Raises:
        ValueError: The file is damaged, too large, or holds objects; the message names ``what``.
    """
    with path.open("rb") as file:
        declared = declared_bytes(file)
        check_bytes(declared, what)
        held = os.fstat(file.fileno()).st_size
        if declared > held:
            raise ValueError(f"{what} declares {declared:,} bytes, but has {held:,}")
    array: np.ndarray = np.load(path, allow_pickle=False)
    return array


def check_lists(value: Any, what: str) -> None:
    """Refuse nested lists that are too large as one array.

    A pickle of a few bytes may hold lists that contain one list many times, so that the array
    would be far larger than the file.

    Raises:
        ValueError: The lists hold more than `MAX_BYTES`, or one of them contains itself.
    """
    sizes: dict[int, int | None] = {}  # by the id of each list; None: not complete
    stack = [(value, False)] if isinstance(value, list | tuple) else []
    while stack:
        items, is_complete = stack.pop()
        below = [item for item in items if isinstance(item, list | tuple)]
        if is_complete:
            size = _ITEM_BYTES * len(items) + sum(sizes[id(item)] or 0 for item in below)
            size += sum(item.nbytes for item in items if isinstance(item, np.ndarray))
            check_bytes(size, what)
            sizes[id(items)] = size
        elif id(items) not in sizes:
            sizes[id(items)] = None
            stack += [(items, True), *((item, False) for item in below)]
        elif sizes[id(items)] is None:
            raise ValueError(f"{what} is a list that contains itself")
