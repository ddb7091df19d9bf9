"""Pickles of arrays, opened without running code out of them. Imports numpy, no torch."""

from __future__ import annotations

import codecs
import importlib
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np

# What arrays and their dictionaries are pickled as, by NumPy 1, NumPy 2 and Python 2.
ARRAY_GLOBALS: dict[str, Any] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": codecs.encode,
}
"""Everything that ``ArrayUnpickler`` admits, by the name that a pickle calls it."""

for _module, _name in (
    ("multiarray", "_reconstruct"),
    ("multiarray", "scalar"),
    ("numeric", "_frombuffer"),
):
    _found = getattr(importlib.import_module(f"numpy._core.{_module}"), _name)
    ARRAY_GLOBALS[f"numpy.core.{_module}.{_name}"] = _found
    ARRAY_GLOBALS[f"numpy._core.{_module}.{_name}"] = _found


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles dictionaries, numbers, strings and arrays; anything else could run code."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse what is not part of an array.

        Raises:
            pickle.UnpicklingError: ``GLOBAL module.name is not allowed``.
        """
        found = ARRAY_GLOBALS.get(f"{module}.{name}")
        if found is None:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not allowed")
        return found
