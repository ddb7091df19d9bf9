"""Look at the first images of a file before any is converted: some things one image cannot tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from vlray.formats.frame import Frame, FrameVotes
from vlray.formats.labels import Labels, given_labels, labels_for
from vlray.formats.reader import Reader, Unreadable
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

    def settings(self) -> dict[str, object]:
        """Give what it found in the form of an output's settings."""
        return {
            "convert.boxes": "normalized" if self.frame.normalized else "pixels",
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
        boxes: The option: ``auto``, ``pixels`` or ``normalized``.
        labels: The option: files of names.

    Raises:
        ValueError: Not one of them can be read; the first reasons are given.
    """
    votes, lengths = FrameVotes(), Counter[int]()
    ids: list[str] = []
    reasons: list[str] = []
    largest = [-1, -1]
    with_photograph = with_size = 0
    words = False
    for _, found in islice(reader.read(), LOOKED_AT):
        if isinstance(found, Unreadable):
            reasons.append(f"{found.image_id}: {found.reason}")
            continue
        try:
            image_id = rename(found.image_id)
        except ValueError as error:
            reasons.append(str(error))
            continue
        photograph = photographs.look_up(image_id, found.image_id)
        ids.append(image_id)
        with_photograph += image_id in photographs
        with_size += photograph.image_hw is not None or found.image_hw is not None
        votes.add(found, photograph.image_hw)
        if len(found.boxes):
            lengths[np.asarray(found.visual_feats).shape[-1]] += 1
        words |= found.obj_names is not None
        for head, numbers in enumerate((found.obj_ids, found.attr_ids)):
            largest[head] = max(largest[head], _largest(numbers))
    if not ids:
        raise ValueError(
            f"not one of the first {len(reasons)} images of {source} can be converted: "
            + "; ".join(reasons[:3])
            if reasons
            else f"{source} holds no images"
        )
    feature_dim = lengths.most_common(1)[0][0] if lengths else 0
    if labels:
        names = given_labels(labels)
    elif words:
        names = Labels((), (), "the words of the file")
    else:
        names = labels_for(source, (largest[0], largest[1]), feature_dim)
    return Survey(
        feature_dim,
        votes.frame(boxes),
        names,
        len(ids),
        with_photograph,
        with_size,
        tuple(ids[:3]),
    )


def _largest(numbers: np.ndarray | None) -> int:
    if numbers is None or not np.size(numbers) or not np.isfinite(numbers).all():
        return -1
    return int(np.max(numbers))
