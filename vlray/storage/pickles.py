"""Safe unpickling of arrays, without running code from the file. Does not import torch.

NumPy trusts the state in a pickle: a forged dtype state crashes the interpreter. The unpickler
therefore calls no function of NumPy that reads such state. It creates dtypes and arrays itself, and
checks every dtype, shape and byte count.
"""

from __future__ import annotations

import math
import pickle
import re
from collections import OrderedDict
from typing import Any, SupportsIndex

import numpy as np

_PLAIN = re.compile(r"[<>|=]?(?:\?|[biufc](?:1|2|4|8|16|32)|[SU][0-9]{1,9}|O[48]?)")
"""Codes of dtypes that are allowed: numeric, bool and string ones, and objects."""
_BYTE_ORDERS = ("<", ">", "|", "=")
_MAX_ITEMS = 2**32
_LATIN1 = ("latin1", "latin-1", "iso-8859-1")


class ArrayUnpickler(pickle.Unpickler):
    """Unpickler for dictionaries, numbers, strings and arrays; anything else could run code.

    Arrays have a numeric, bool or string dtype, or hold objects of these kinds.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return the substitute for the global with this name, if it is allowed.

        Raises:
            pickle.UnpicklingError: ``GLOBAL module.name is not allowed``.
        """
        value = _GLOBALS.get(f"{module}.{name}")
        if value is None:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not allowed")
        return value


class _Dtype:
    """A dtype in a pickle. It becomes a NumPy dtype only after the checks."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _PLAIN.fullmatch(code):
            raise pickle.UnpicklingError(
                f"the dtype {code!r} is not allowed, only numeric, bool and string dtypes"
            )
        self._dtype = np.dtype(code)

    def __setstate__(self, state: object) -> None:
        # The state is (version, byte order, subarray, names, fields, size, alignment, flags, ...).
        # Only the byte order adds anything to the code of a plain dtype.
        if (
            not isinstance(state, tuple)
            or len(state) < 5
            or state[1] not in _BYTE_ORDERS
            or any(part is not None for part in state[2:5])
        ):
            raise pickle.UnpicklingError("the state of a dtype is not that of a plain dtype")
        self._dtype = self._dtype.newbyteorder(state[1])

    @staticmethod
    def unwrap(value: object) -> np.dtype[Any]:
        """Return the checked NumPy dtype."""
        if not isinstance(value, _Dtype):
            raise pickle.UnpicklingError(f"a {type(value).__name__} is in the place of a dtype")
        return value._dtype


class _Array(np.ndarray):
    """An array whose state is checked before NumPy reads it."""

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise pickle.UnpicklingError("the state of an array is damaged")
        shape, dtype, is_fortran, data = state[-4:]
        dtype = _Dtype.unwrap(dtype)
        count = _count(shape)
        if dtype.hasobject:
            if not isinstance(data, list) or len(data) != count:
                raise pickle.UnpicklingError(f"an array does not hold its {count} objects")
            # NumPy requires an exact list; each element was unpickled and checked before.
            data = list(data)
        else:
            data = bytes(_checked_bytes(data, dtype, count))
        super().__setstate__((1, shape, dtype, bool(is_fortran), data))  # type: ignore[arg-type] # a plain bool

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[object, ...]:
        # Other processes get a plain array, with NumPy's own dtypes.
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _reconstruct(*_: object) -> _Array:
    """Return an empty array, whose content follows as its state."""
    return _Array(0, np.uint8)


def _scalar(dtype: object, data: object = b"") -> object:
    """Return a NumPy number or string."""
    dtype = _Dtype.unwrap(dtype)
    if dtype.hasobject:
        raise pickle.UnpicklingError("a NumPy scalar with an object dtype is not allowed")
    if not dtype.itemsize:
        return dtype.type()
    return np.frombuffer(bytes(_checked_bytes(data, dtype, 1)), dtype)[0]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, *axes: Any) -> Any:
    """Return an array over the bytes of a pickle of protocol 5."""
    dtype = _Dtype.unwrap(dtype)
    if dtype.hasobject or order not in ("C", "F") or any(axis is not None for axis in axes):
        raise pickle.UnpicklingError("the layout of an array is not allowed")
    data = _checked_bytes(data, dtype, _count(shape))
    if not dtype.itemsize or not data:
        return np.zeros(shape, dtype, order)
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Return bytes, which protocols 0 to 2 store as text in Latin-1."""
    if not isinstance(text, str) or encoding not in _LATIN1:
        raise pickle.UnpicklingError(f"the encoding {encoding!r} is not allowed")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Return empty bytes, which protocols 0 to 2 store as a call."""
    return b""


def _count(shape: object) -> int:
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise pickle.UnpicklingError(f"the shape {shape!r} of an array is not valid")
    count = math.prod(shape)
    if count > _MAX_ITEMS:  # empty strings take no bytes, but NumPy may allocate some
        raise pickle.UnpicklingError(f"an array of {count:,} values is not allowed")
    return count


def _checked_bytes(data: object, dtype: np.dtype[Any], count: int) -> bytes | bytearray:
    """Return the bytes of ``count`` numbers or strings, after a check of their length."""
    if isinstance(data, str):  # from Python 2
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError(f"a {type(data).__name__} is in the place of bytes")
    if len(data) != count * dtype.itemsize:
        raise pickle.UnpicklingError(
            f"an array of {count:,} values of {dtype} has {len(data):,} bytes, not "
            f"{count * dtype.itemsize:,}"
        )
    return data


# Globals that NumPy 1, NumPy 2 and Python 2 write to pickles of arrays and dicts of arrays.
_GLOBALS: dict[str, object] = {
    "numpy.ndarray": "numpy.ndarray",  # only an argument, so it need not be callable
    "numpy.dtype": _Dtype,
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": _encode,
    "__builtin__.bytes": _no_bytes,
}
for _package in ("numpy.core", "numpy._core"):  # NumPy 1 writes the first name, NumPy 2 the second
    _GLOBALS[f"{_package}.multiarray._reconstruct"] = _reconstruct
    _GLOBALS[f"{_package}.multiarray.scalar"] = _scalar
    _GLOBALS[f"{_package}.numeric._frombuffer"] = _from_buffer
