"""The identity of an output: the detector and the settings that determine its rows."""

from __future__ import annotations

from pathlib import PurePath

from vlray.config.detector import DetectorSection
from vlray.config.extract import ExtractConfig
from vlray.detect.load import identify
from vlray.images.listing import Listing
from vlray.regions.schema import SCHEMA_VERSION, Identity
from vlray.regions.user_boxes import UserBoxes
from vlray.settings.secrets import redact, redact_all
from vlray.version import __version__

# Options of region selection; they have no effect on grid features and user boxes.
_SELECTION = {
    *("score_thresh", "nms_thresh", "nms_filter", "post_nms_topk", "min_boxes", "max_boxes"),
}
# The device is not part of the identity. `identify` adds name, weights and labels by content.
_FREE = {"device", "name", "weights", "labels"}


def defaults(config: ExtractConfig) -> dict[str, object]:
    """Return the values to assume for settings that a stored identity lacks.

    A setting is missing if the output is older than the option, or if the setting has no
    effect on the output.
    """
    values = {name: field.default for name, field in DetectorSection.model_fields.items()}
    values["nms_thresh"] = config.detector.nms_thresh  # the default depends on the detector
    others = {"boxes_sha256": "none", "output.tags": False}
    return {f"detector.{name}": value for name, value in values.items()} | others


def identity_of(
    config: ExtractConfig, listing: Listing, user_boxes: UserBoxes | None = None
) -> Identity:
    """Collect the detector and the settings that determine the rows of an output."""
    settings = {
        "images.id_rule": config.images.id_rule,
        "images.max_pixels": config.images.max_pixels,
        "output.dtype": config.output.dtype,
        "output.compression": config.output.compression,
        "output.shard_size": config.output.shard_size,
        "output.tags": config.output.tags,
    }
    selects = user_boxes is None and config.detector.features != "grid"
    for name, value in config.detector.model_dump(mode="json").items():
        if name not in (_FREE if selects else _FREE | _SELECTION):
            settings[f"detector.{name}"] = value
    if user_boxes is not None:
        settings["boxes_sha256"] = user_boxes.sha256  # the file may be moved or converted
    return {
        "schema_version": SCHEMA_VERSION,
        "vlray_version": __version__,
        "dataset": config.images.dataset or listing.dataset,
        "images_root": redact(listing.root),
        "detector": {"name": PurePath(config.detector.name).name} | identify(config.detector),
        "settings": redact_all(settings),
    }
