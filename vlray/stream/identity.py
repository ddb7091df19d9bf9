"""What makes an extraction's output itself: its detector and settings."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import vlray
from vlray.config.extract import ExtractConfig
from vlray.detect.load import identify
from vlray.images.find import Listing
from vlray.regions.schema import SCHEMA_VERSION

# Where a detector runs is no part of what it is; its name and weights are known by content.
_FREE = {"device", "name", "weights"}


def identity_of(config: ExtractConfig, listing: Listing) -> dict[str, Any]:
    """Collect what the rows of an output depend on."""
    settings = {
        "images.id_rule": config.images.id_rule,
        "images.max_pixels": config.images.max_pixels,
        "output.dtype": config.output.dtype,
        "output.compression": config.output.compression,
        "output.shard_size": config.output.shard_size,
    }
    for name, value in config.detector.model_dump(mode="json").items():
        if name not in _FREE:
            settings[f"detector.{name}"] = value
    return {
        "schema_version": SCHEMA_VERSION,
        "vlray_version": vlray.__version__,
        "dataset": config.images.dataset or listing.dataset,
        "images_root": listing.root,
        "detector": {"name": PurePath(config.detector.name).name} | identify(config.detector),
        "settings": settings,
    }
