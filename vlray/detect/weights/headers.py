"""Headers of safetensors files, and the cache of converted weights. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from vlray.detect.weights.files import cache_folder

VG_FAMILY = "vlray-vg-"
VG_FORMAT = f"{VG_FAMILY}1"  # increase the number when the canonical form changes


def converted_path(digest: str) -> Path:
    """Return the path of the converted copy of Visual Genome weights; it may not exist.

    Args:
        digest: SHA-256 of the published file.
    """
    return cache_folder() / "converted" / f"{VG_FORMAT}-{digest}.safetensors"


def read_header(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Read the metadata of a safetensors file, and the shapes of its tensors by name.

    Returns:
        Metadata and shapes; both empty if the file is damaged or of another format.
    """
    try:
        with safe_open(path, framework="np") as file:
            names = file.keys()
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            return dict(file.metadata() or {}), shapes
    except SafetensorError:
        return {}, {}
