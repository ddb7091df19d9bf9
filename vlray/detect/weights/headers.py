"""Read safetensors headers, and locate converted weights in the cache. Does not import torch."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from vlray.detect.weights.files import cache_folder

VG_FAMILY = "vlray-vg-"
VG_FORMAT = f"{VG_FAMILY}1"  # increase the number when the canonical form changes


def converted_path(digest: str) -> Path:
    """Return the cache path for converted Visual Genome weights, which may not exist yet.

    Args:
        digest: SHA-256 of the published file.
    """
    return cache_folder() / "converted" / f"{VG_FORMAT}-{digest}.safetensors"


def read_header(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Read a safetensors file's metadata, and its tensors' shapes, keyed by name.

    Returns:
        Metadata and shapes; both empty if the file is damaged or has another format.
    """
    try:
        with safe_open(path, framework="np") as file:
            names = file.keys()
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            return dict(file.metadata() or {}), shapes
    except SafetensorError:
        return {}, {}
