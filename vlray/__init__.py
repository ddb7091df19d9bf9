"""Region features for vision-and-language models, on one machine or a Ray cluster.

The names in ``__all__`` are the public Python API; everything else may change between versions.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vlray.version import __version__

if TYPE_CHECKING:
    from vlray.detect.notebook import detector_info, find_regions
    from vlray.loader.open import open_loader
    from vlray.regions.output import open_output
    from vlray.stream.api import extract_regions as extract


__all__ = ["__version__", "detector_info", "extract", "find_regions", "open_loader", "open_output"]

_MODULES = {
    "detector_info": "vlray.detect.notebook",
    "find_regions": "vlray.detect.notebook",
    "open_loader": "vlray.loader.open",
    "open_output": "vlray.regions.output",
}


def __getattr__(name: str) -> Any:
    """Import a part of the API on first use, because most parts import torch."""
    if name == "extract":  # the command's module, which is callable
        return importlib.import_module("vlray.extract")
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
