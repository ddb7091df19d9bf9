"""Survey the first images in a file, to infer settings that one image cannot determine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from vlray.formats.frame import Frame, FrameVotes
from vlray.formats.labels import Labels, infer_labels, infer_names, read_labels
from vlray.formats.readers.protocol import RawRegions, Reader, Unreadable
from vlray.formats.sizes import Photographs
from vlray.settings.wording import counted

LOOKED_AT = 256  # images


@dataclass(frozen=True)
class Survey:
    """Properties of a file, inferred from the first images.

    Attributes:
        feature_dim: Length of the feature vectors.
        frame: How to interpret the sizes and boxes.
        labels: Label names, by id; empty if the file has words instead of ids.
        images: Number of surveyed images.
        with_photograph: Number of surveyed images with an image file in ``--images``.
        with_size: Number of surveyed images whose size is known from any source.
        first_ids: The first image ids, for messages.
    """

    feature_dim: int
    frame: Frame
    labels: Labels
    images: int
    with_photograph: int
    with_size: int
    first_ids: tuple[str, ...]

    @property
    def boxes(self) -> str:
        """Unit of the boxes, as a value of the option ``boxes``."""
        if self.frame.shorter_side:
            return "shorter-side"
        return "normalized" if self.frame.normalized else "pixels"

    def settings(self) -> dict[str, object]:
        """Return the inferred properties as settings of the output."""
        return {
            "convert.boxes": self.boxes,
            "convert.size_order": "width, height" if self.frame.swapped else "as the form has it",
        }


def survey(
    reader: Reader,
    source: Path,
    photographs: Photographs,
    rename: Callable[[str], str],
    *,
    boxes: str,
    labels: tuple[str, ...],
) -> Survey:
    """Survey the first images in a file.

    Args:
        reader: Reader for the file.
        source: The file; a sidecar file may hold the names of the ids.
        photographs: Photographs and sizes of the images.
        rename: Function that maps an id in the file to an image id.
        boxes: The option ``boxes``.
        labels: The option ``labels``: files with the names of the ids.

    Raises:
        ValueError: None of the first images can be converted (the message includes the first
            reasons), boxes are fractions of something other than the image, or a file of names
            cannot be read.
    """
    tally = _Tally(photographs)
    for _, raw in islice(reader.read(), LOOKED_AT):
        if isinstance(raw, Unreadable):
            tally.reasons.append(f"{raw.image_id}: {raw.reason}")
            continue
        try:
            tally.add(raw, rename(raw.image_id))
        except ValueError as error:  # the id does not match the id rule
            tally.reasons.append(str(error))
    if not tally.ids:
        raise ValueError(
            f"none of the first {counted(len(tally.reasons), 'image')} in {source} can be "
            "converted: " + "; ".join(tally.reasons[:3])
            if tally.reasons
            else f"{source} contains no images"
        )
    try:
        frame = tally.votes.frame(boxes)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    # Use the most common length, since a few images may be damaged.
    feature_dim = tally.lengths.most_common(1)[0][0] if tally.lengths else 0
    if labels:
        names = read_labels(labels)
    elif tally.words:
        names = infer_names(source)
    else:
        names = infer_labels(
            source,
            (tally.largest[0], tally.largest[1]),
            feature_dim,
            getattr(reader, "vocabulary", None),
        )
    return Survey(
        feature_dim,
        frame,
        names,
        len(tally.ids),
        tally.with_photograph,
        tally.with_size,
        tuple(tally.ids[:3]),
    )


@dataclass
class _Tally:
    """Counts and maxima over the first images."""

    photographs: Photographs
    votes: FrameVotes = field(default_factory=FrameVotes)
    lengths: Counter[int] = field(default_factory=Counter)  # images per vector length
    ids: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)  # why images cannot be converted
    largest: list[int] = field(default_factory=lambda: [-1, -1])  # object id, attribute id
    with_photograph: int = 0
    with_size: int = 0
    words: bool = False

    def add(self, raw: RawRegions, image_id: str) -> None:
        """Count one image; ``image_id`` is the id after renaming."""
        photograph = self.photographs.look_up(image_id, raw.image_id)
        self.ids.append(image_id)
        self.with_photograph += image_id in self.photographs
        self.with_size += photograph.image_hw is not None or raw.image_hw is not None
        self.votes.add(raw, photograph.image_hw)
        if len(raw.boxes):
            self.lengths[np.asarray(raw.visual_feats).shape[-1]] += 1
        self.words |= raw.obj_names is not None
        for head, numbers in enumerate((raw.obj_ids, raw.attr_ids)):
            self.largest[head] = max(self.largest[head], _largest(numbers))


def _largest(numbers: np.ndarray | None) -> int:
    if numbers is None or not np.size(numbers) or not np.isfinite(numbers).all():
        return -1
    return int(np.max(numbers))
