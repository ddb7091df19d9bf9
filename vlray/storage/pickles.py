"""Safe unpickling of arrays, without running code from the file. Does not import torch."""

from __future__ import annotations

import codecs
import importlib
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np

# Globals that NumPy 1, NumPy 2 and Python 2 write to pickles of arrays and dicts of arrays.
ARRAY_GLOBALS: dict[str, Any] = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": codecs.encode,
}
"""Globals that ``ArrayUnpickler`` allows, keyed by their names in a pickle."""

for _module, _name in (
    ("multiarray", "_reconstruct"),
    ("multiarray", "scalar"),
    ("numeric", "_frombuffer"),
):
    _global = getattr(importlib.import_module(f"numpy._core.{_module}"), _name)
    # NumPy 1 writes the first name, NumPy 2 the second.
    ARRAY_GLOBALS[f"numpy.core.{_module}.{_name}"] = _global
    ARRAY_GLOBALS[f"numpy._core.{_module}.{_name}"] = _global


class ArrayUnpickler(pickle.Unpickler):
    """Unpickler for dictionaries, numbers, strings and arrays; anything else could run code."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the global with this name, if it is allowed.

        Raises:
            pickle.UnpicklingError: ``GLOBAL module.name is not allowed``.
        """
        value = ARRAY_GLOBALS.get(f"{module}.{name}")
        if value is None:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not allowed")
        return value
