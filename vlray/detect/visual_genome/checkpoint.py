"""Load weights of the Visual Genome detector, whoever published them; convert them only once."""

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
from vlray.detect.weights.headers import VG_FAMILY, VG_FORMAT, converted_path, read_header
from vlray.settings.atomic import replacing
from vlray.storage.locks import locked

__all__ = ["VgCheckpoint", "canonical_shapes", "load_vg"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VgCheckpoint:
    """Weights of the Visual Genome detector, in the canonical form."""

    tensors: dict[str, Tensor]
    """By the names, and of the shapes, of ``canonical_shapes``; float32."""

    flavour: Flavour
    """What the file is: ``hf``, ``airsplay``, ``milvlg``, or ``canonical`` as vlray writes it."""

    has_attributes: bool
    """Whether there is a head that predicts attributes."""

    sha256: str
    """Of the file, as it was published."""

    path: Path
    """The file."""


def load_vg(weights: str) -> VgCheckpoint:
    """Find weights, tell by their content what they are, and convert them.

    The converted weights are kept in the user's cache, so that the next process only reads them.

    Args:
        weights: A local file, a URL or a name on the Hugging Face hub, as ``locate`` takes them.

    Raises:
        ValueError: They cannot be found or downloaded, would run code, or are not complete
            weights of this network: what differs is listed.
    """
    path = locate(weights)
    digest = sha256(path)
    if read_header(path)[0].get("format", "").startswith(VG_FAMILY):
        tensors, metadata = _read_canonical(path)
        return VgCheckpoint(tensors, "canonical", _has_attributes(metadata), digest, path)
    place = converted_path(digest)
    checkpoint = _from_cache(place, digest, path)
    if checkpoint is None:
        with _alone(place):
            checkpoint = _from_cache(place, digest, path) or _convert(path, digest, place)
    return checkpoint


def _convert(path: Path, digest: str, place: Path) -> VgCheckpoint:
    tensors, flavour, has_attributes = to_canonical(read_tensors(path), str(path))
    metadata = {
        "format": VG_FORMAT,
        "flavour": flavour,
        "source_sha256": digest,
        "has_attributes": str(has_attributes).lower(),
    }
    try:
        with replacing(place) as temporary:
            save_file(tensors, temporary, metadata)
    except (OSError, SafetensorError) as error:
        logger.warning("%s is converted again next time: %s", path, error)
    else:
        logger.info("Converted %s (%s) to %s", path, flavour, place)
    return VgCheckpoint(tensors, flavour, has_attributes, digest, path)


def _from_cache(place: Path, digest: str, path: Path) -> VgCheckpoint | None:
    """Read what was converted before; none if there is nothing, or nothing that can be used."""
    try:
        if not place.is_file():
            return None
        tensors, metadata = _read_canonical(place)
        if metadata["source_sha256"] != digest:
            raise ValueError(f"it was made of another file, of {metadata['source_sha256']}")
    except (OSError, ValueError) as error:
        logger.warning("The converted weights %s are made anew: %s", place, error)
        return None
    flavour = cast("Flavour", metadata["flavour"])
    return VgCheckpoint(tensors, flavour, _has_attributes(metadata), digest, path)


def _read_canonical(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a file that vlray wrote, and what it says of itself.

    Raises:
        ValueError: The file is damaged, or of another version.
    """
    metadata, _ = read_header(path)
    absent = {"format", "flavour", "source_sha256", "has_attributes"} - metadata.keys()
    if absent or metadata["format"] != VG_FORMAT or metadata["flavour"] not in get_args(Flavour):
        raise ValueError(
            f"{path} says of itself {metadata}, and this version of vlray reads {VG_FORMAT}; "
            "give it the published file, which it converts"
        )
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    check_shapes(tensors, canonical_shapes(_has_attributes(metadata)), str(path))
    return tensors, metadata


def _has_attributes(metadata: dict[str, str]) -> bool:
    return metadata["has_attributes"] == "true"


def _alone(place: Path) -> AbstractContextManager[object]:
    """Let one process of a machine convert; where nothing can be written, each does."""
    lock = place.with_name(f".{place.name}.lock")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        logger.warning("Converted weights cannot be kept in %s: %s", place.parent, error)
        return nullcontext()
    return locked(lock)
