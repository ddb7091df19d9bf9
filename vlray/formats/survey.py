"""Look at the first images of a file before any is converted: some things one image cannot tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from vlray.formats.frame import Frame, FrameVotes
from vlray.formats.labels import Labels, given_labels, labels_for
from vlray.formats.readers.protocol import Found, Reader, Unreadable
from vlray.formats.sizes import Photographs

LOOKED_AT = 256  # images


@dataclass(frozen=True)
class Survey:
    """What holds for all images of a file.

    Attributes:
        feature_dim: Length of its vectors.
        frame: How its sizes and boxes are to be read.
        labels: Names of its ids; of a file that holds words, those to begin with.
        images: How many were looked at.
        with_photograph: How many of these have a photograph in ``--images``.
        with_size: How many have a size, wherever from.
        first_ids: Some image ids, for messages.
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
        """The unit of its boxes, as the option ``boxes`` calls it."""
        if self.frame.shorter_side:
            return "shorter-side"
        return "normalized" if self.frame.normalized else "pixels"

    def settings(self) -> dict[str, object]:
        """Give what it found in the form of an output's settings."""
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
    """Look at the first images.

    Args:
        reader: Of the file.
        source: The file, beside which there may be names of its ids.
        photographs: What is known of the images.
        rename: Makes an image id of a file's id.
        boxes: The option of that name.
        labels: The option: files of names.

    Raises:
        ValueError: Not one of them can be read; the first reasons are given. Or boxes are
            fractions of something else than the image.
    """
    tally = _Tally(photographs)
    for _, found in islice(reader.read(), LOOKED_AT):
        if isinstance(found, Unreadable):
            tally.reasons.append(f"{found.image_id}: {found.reason}")
            continue
        try:
            tally.add(found, rename(found.image_id))
        except ValueError as error:  # the rule makes no id of its id
            tally.reasons.append(str(error))
    if not tally.ids:
        raise ValueError(
            f"not one of the first {len(tally.reasons)} images of {source} can be converted: "
            + "; ".join(tally.reasons[:3])
            if tally.reasons
            else f"{source} holds no images"
        )
    try:
        frame = tally.votes.frame(boxes)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    feature_dim = tally.lengths.most_common(1)[0][0] if tally.lengths else 0
    if labels:
        names = given_labels(labels)
    elif tally.words:
        names = Labels((), (), "the words of the file")
    else:
        names = labels_for(source, (tally.largest[0], tally.largest[1]), feature_dim)
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
    """Counts over the first images."""

    photographs: Photographs
    votes: FrameVotes = field(default_factory=FrameVotes)
    lengths: Counter[int] = field(default_factory=Counter)  # of vectors
    ids: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)  # why images cannot be converted
    largest: list[int] = field(default_factory=lambda: [-1, -1])  # object and attribute id
    with_photograph: int = 0
    with_size: int = 0
    words: bool = False

    def add(self, found: Found, image_id: str) -> None:
        """Count one image."""
        photograph = self.photographs.look_up(image_id, found.image_id)
        self.ids.append(image_id)
        self.with_photograph += image_id in self.photographs
        self.with_size += photograph.image_hw is not None or found.image_hw is not None
        self.votes.add(found, photograph.image_hw)
        if len(found.boxes):
            self.lengths[np.asarray(found.visual_feats).shape[-1]] += 1
        self.words |= found.obj_names is not None
        for head, numbers in enumerate((found.obj_ids, found.attr_ids)):
            self.largest[head] = max(self.largest[head], _largest(numbers))


def _largest(numbers: np.ndarray | None) -> int:
    if numbers is None or not np.size(numbers) or not np.isfinite(numbers).all():
        return -1
    return int(np.max(numbers))
