"""Load the Visual Genome detector's weights from any published form, and convert them once."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlray.detect.d2.checkpoint import read_tensors
from vlray.detect.visual_genome.flavours import Flavour, check_shapes, to_canonical
from vlray.detect.visual_genome.shapes import canonical_shapes
from vlray.detect.weights.files import locate, sha256
from vlray.detect.weights.finite import check_finite
from vlray.detect.weights.headers import VG_FAMILY, VG_FORMAT, converted_path, read_header
from vlray.settings.atomic import replacing
from vlray.storage.locks import locked

__all__ = ["VgCheckpoint", "canonical_shapes", "load_vg"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VgCheckpoint:
    """Weights of the Visual Genome detector, in the canonical form."""

    tensors: dict[str, Tensor]
    """Float32 tensors, keyed by name, with the names and shapes in ``canonical_shapes``."""

    flavour: Flavour
    """Published form of the file: ``hf``, ``airsplay`` or ``milvlg``. A file that vlray wrote is
    ``canonical``."""

    has_attributes: bool
    """Whether the weights include the attribute head."""

    sha256: str
    """SHA-256 of the file."""

    path: Path
    """Local path of the file."""


def load_vg(weights: str) -> VgCheckpoint:
    """Load weights in any published form; the form is detected from the content.

    Converted weights are stored in the user's cache, so that later processes only read them.

    Args:
        weights: A local file, a URL or a name on the Hugging Face Hub (see ``locate``).

    Raises:
        ValueError: The weights cannot be found or downloaded, require code to be run, or are not
            the complete weights of this network, or not finite; the message lists the differences.
    """
    path = locate(weights)
    digest = sha256(path)
    if read_header(path)[0].get("format", "").startswith(VG_FAMILY):
        tensors, metadata = _read_canonical(path)
        check_finite(tensors, path)
        return VgCheckpoint(tensors, "canonical", _has_attributes(metadata), digest, path)
    cached = converted_path(digest)
    checkpoint = _from_cache(cached, digest, path)
    if checkpoint is None:
        with _conversion_lock(cached):
            # Another process may have converted the file while this one waited for the lock.
            checkpoint = _from_cache(cached, digest, path) or _convert(path, digest, cached)
    check_finite(checkpoint.tensors, path)
    return checkpoint


def _convert(path: Path, digest: str, cached: Path) -> VgCheckpoint:
    """Convert a published file, and write the result to the cache if possible."""
    tensors, flavour, has_attributes = to_canonical(read_tensors(path), str(path))
    metadata = {
        "format": VG_FORMAT,
        "flavour": flavour,
        "source_sha256": digest,
        "has_attributes": str(has_attributes).lower(),
    }
    # Readers in other processes must never see a partial file.
    try:
        with replacing(cached) as temporary:
            save_file(tensors, temporary, metadata)
    except (OSError, SafetensorError) as error:  # a full or read-only disk is not fatal
        logger.warning(
            "converted weights cannot be cached, so every run converts %s again: %s", path, error
        )
    else:
        logger.info("converted %s (%s) to %s", path, flavour, cached)
    return VgCheckpoint(tensors, flavour, has_attributes, digest, path)


def _from_cache(cached: Path, digest: str, path: Path) -> VgCheckpoint | None:
    """Read previously converted weights; return None if there are none or they cannot be used."""
    try:
        if not cached.is_file():
            return None
        tensors, metadata = _read_canonical(cached)
        if metadata["source_sha256"] != digest:
            raise ValueError(f"converted from another file ({metadata['source_sha256']})")
    except (OSError, ValueError) as error:
        logger.warning("converting the weights again, because %s cannot be used: %s", cached, error)
        return None
    flavour = cast("Flavour", metadata["flavour"])
    return VgCheckpoint(tensors, flavour, _has_attributes(metadata), digest, path)


def _read_canonical(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a file that vlray wrote.

    Raises:
        ValueError: The file is damaged, or was written by another version of vlray.
    """
    metadata, _ = read_header(path)
    absent = {"format", "flavour", "source_sha256", "has_attributes"} - metadata.keys()
    if absent or metadata["format"] != VG_FORMAT or metadata["flavour"] not in get_args(Flavour):
        raise ValueError(
            f"{path} has the metadata {metadata}, but this version of vlray reads {VG_FORMAT}; "
            "pass the published file, and vlray converts it again"
        )
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    check_shapes(tensors, canonical_shapes(_has_attributes(metadata)), str(path))
    return tensors, metadata


def _has_attributes(metadata: dict[str, str]) -> bool:
    return metadata["has_attributes"] == "true"


def _conversion_lock(cached: Path) -> AbstractContextManager[object]:
    """Lock the conversion on this machine, or do nothing if the cache is not writable."""
    lock = cached.with_name(f".{cached.name}.lock")
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        logger.warning("converted weights cannot be cached in %s: %s", cached.parent, error)
        return nullcontext()
    return locked(lock)
