"""Batches for models: examples with the regions of their images."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlray.config.loader import LoaderSection, PretrainingSection
    from vlray.loader.collate import Collate
    from vlray.loader.dataset import RegionDataset
    from vlray.loader.inputs import ModelInputs
    from vlray.loader.loader import RegionLoader
    from vlray.loader.open import open_loader
    from vlray.regions.store import open_store
    from vlray.tasks.corpus import CorpusSpec, open_corpus

_MODULES = {
    "Collate": "vlray.loader.collate",
    "CorpusSpec": "vlray.tasks.corpus",
    "LoaderSection": "vlray.config.loader",
    "ModelInputs": "vlray.loader.inputs",
    "PretrainingSection": "vlray.config.loader",
    "RegionDataset": "vlray.loader.dataset",
    "RegionLoader": "vlray.loader.loader",
    "open_corpus": "vlray.tasks.corpus",
    "open_loader": "vlray.loader.open",
    "open_store": "vlray.regions.store",
}

__all__ = [
    "Collate",
    "CorpusSpec",
    "LoaderSection",
    "ModelInputs",
    "PretrainingSection",
    "RegionDataset",
    "RegionLoader",
    "open_corpus",
    "open_loader",
    "open_store",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that torch is imported only when needed."""
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
