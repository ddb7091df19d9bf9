"""Whether weights fit their network, told before anything starts.

What is known to fit is told by headers and names alone, without torch; anything else is loaded as a
detector would load it, which says what is wrong.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from vlray.detect.lite.detector import WEIGHTS
from vlray.detect.visual_genome.shapes import Shapes, canonical_shapes
from vlray.detect.weights.files import cache_folder, sha256

VG_FAMILY = "vlray-vg-"
VG_FORMAT = f"{VG_FAMILY}1"  # another number where the canonical form changes

_LITE_CLASSES = "roi_heads.box_predictor.cls_score"


def check_lite(path: Path) -> None:
    """Refuse a file that ``lite`` cannot load.

    Raises:
        ValueError: It is damaged, of another network, or not what ``jobs/train_lite.py`` makes.
    """
    if not _is_lite(path):
        from vlray.detect.lite.weights import load_lite

        load_lite(path)


def check_vg(path: Path) -> None:
    """Refuse a file that ``vg-caffe`` and ``vg-pbua`` cannot load; convert it if it is new.

    Raises:
        ValueError: As ``load_vg``.
    """
    if not (_is_canonical(path) or converted_path(sha256(path)).is_file()):
        from vlray.detect.visual_genome.checkpoint import load_vg

        load_vg(str(path))


def converted_path(digest: str) -> Path:
    """Give the place of the converted copy of Visual Genome weights, whether it is there or not.

    Args:
        digest: SHA-256 of the file as it was published.
    """
    return cache_folder() / "converted" / f"{VG_FORMAT}-{digest}.safetensors"


def read_header(path: Path) -> tuple[dict[str, str], Shapes]:
    """Read what a safetensors file says of itself, and the shapes of its tensors by name.

    Returns:
        Both empty for another file or a damaged one.
    """
    try:
        with safe_open(path, framework="np") as file:
            names = file.keys()
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            return dict(file.metadata() or {}), shapes
    except SafetensorError:
        return {}, {}


def _is_lite(path: Path) -> bool:
    """Compare with the shipped weights; only the number of classes may be another."""
    metadata, shapes = read_header(path)
    try:
        classes = len(json.loads(metadata["obj_names"])) + 1  # and the background
    except (KeyError, TypeError, json.JSONDecodeError):
        return False
    _, expected = read_header(WEIGHTS)
    for name in (f"{_LITE_CLASSES}.weight", f"{_LITE_CLASSES}.bias"):
        expected[name] = (classes, *expected[name][1:])
    return shapes == expected


def _is_canonical(path: Path) -> bool:
    metadata, shapes = read_header(path)
    has_attributes = metadata.get("has_attributes") == "true"
    return metadata.get("format") == VG_FORMAT and shapes == canonical_shapes(has_attributes)
