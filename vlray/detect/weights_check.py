"""Check that weights fit their network, before any actor starts.

A file that fits is usually recognized without torch, by its header or its cached conversion. Any
other file is loaded as the detector would load it, so that the error states the reason.
"""

from __future__ import annotations

import json
from pathlib import Path

from vlray.detect.lite import WEIGHTS
from vlray.detect.visual_genome.shapes import canonical_shapes
from vlray.detect.weights.files import sha256
from vlray.detect.weights.headers import VG_FORMAT, converted_path, read_header

_LITE_CLASSES = "roi_heads.box_predictor.cls_score"


def check_lite(path: Path) -> None:
    """Refuse a weights file that ``lite`` cannot load.

    Raises:
        ValueError: The file is damaged, belongs to another network, or was not written by
            ``jobs/train_lite.py``.
    """
    if not _is_lite(path):
        from vlray.detect.lite.weights import load_lite

        load_lite(path)


def check_vg(path: Path) -> None:
    """Refuse a weights file that ``vg-caffe`` and ``vg-pbua`` cannot load; convert a new one.

    Raises:
        ValueError: See ``load_vg``.
    """
    if not (_is_canonical(path) or converted_path(sha256(path)).is_file()):
        from vlray.detect.visual_genome.checkpoint import load_vg

        load_vg(str(path))


def _is_lite(path: Path) -> bool:
    """Return whether the tensors match the shipped ones, up to the number of classes."""
    metadata, shapes = read_header(path)
    try:
        classes = len(json.loads(metadata["obj_names"])) + 1  # plus the background
    except (KeyError, TypeError, ValueError, RecursionError):
        return False
    _, expected = read_header(WEIGHTS)
    for name in (f"{_LITE_CLASSES}.weight", f"{_LITE_CLASSES}.bias"):
        expected[name] = (classes, *expected[name][1:])
    return shapes == expected


def _is_canonical(path: Path) -> bool:
    metadata, shapes = read_header(path)
    has_attributes = metadata.get("has_attributes") == "true"
    return metadata.get("format") == VG_FORMAT and shapes == canonical_shapes(has_attributes)
