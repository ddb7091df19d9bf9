"""Counts of the images, regions and labels in an output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlray.gallery.entries import read_entries
from vlray.pages.labels import name_of
from vlray.regions.output import RegionOutput
from vlray.settings.text_table import align
from vlray.settings.wording import counted


@dataclass(frozen=True)
class LabelCount:
    """Counts for one object class, among the regions with at least a minimum score.

    Attributes:
        name: Name of the class.
        regions: Number of regions.
        images: Number of images with at least one such region.
        mean_score: Mean score of the regions; NaN if the output has no scores.
    """

    name: str
    regions: int
    images: int
    mean_score: float


@dataclass(frozen=True)
class Summary:
    """Counts for the selected images of an output.

    Attributes:
        image_ids: Image ids, in the order of the output.
        regions: Number of regions, regardless of score.
        few: Number of images with fewer regions than ``min_boxes``.
        min_boxes: Minimum number of boxes per image in the detector's settings; 0: not set.
        min_score: Minimum score of the regions that ``labels`` counts.
        labels: Counts for each object class, most frequent first.
    """

    image_ids: tuple[str, ...]
    regions: int
    few: int
    min_boxes: int
    min_score: float
    labels: tuple[LabelCount, ...]


def summarize(
    output: RegionOutput, *, min_score: float, split: Sequence[str] = (), limit: int = 0
) -> Summary:
    """Count the images, regions and labels in an output, without reading the features.

    Raises:
        ValueError: A split has neither images nor failures in the output.
    """
    min_boxes = int(output.info.settings.get("detector.min_boxes", 0))
    image_ids: list[str] = []
    splits: set[str] = set()
    regions = few = 0
    sums: dict[int, np.ndarray] = {}  # per class: regions, images, sum of the scores
    for entry in read_entries(output, split=split, limit=limit):
        image_ids.append(entry.image_id)
        splits.add(entry.split)
        regions += len(entry)
        few += len(entry) < min_boxes
        above = entry.above(min_score)
        for label in np.unique(above.obj_ids).tolist():
            rows = above.obj_ids == label
            # Without scores, NaN makes the class's mean NaN.
            scores = above.obj_probs[rows] if len(above.obj_probs) else np.array([np.nan])
            row = sums.setdefault(label, np.zeros(3))
            row += [rows.sum(), 1, scores.sum(dtype=np.float64)]
    if absent := set(split) - splits:
        _refuse_absent(output, absent)
    labels = [
        LabelCount(name_of(label, output.obj_names), int(row[0]), int(row[1]), row[2] / row[0])
        for label, row in sums.items()
    ]
    # Ties are sorted by name, so that the order is always the same.
    labels.sort(key=lambda label: (-label.regions, label.name))
    return Summary(tuple(image_ids), regions, few, min_boxes, min_score, tuple(labels))


def table(
    output: RegionOutput | Summary,
    *,
    min_score: float = 0.3,
    split: Sequence[str] = (),
    rows: int = 15,
) -> str:
    """Format the most frequent labels of an output as lines of aligned text.

    Args:
        output: An output, or the result of `summarize`, for which ``min_score`` and ``split`` are
            ignored.
        min_score: Minimum score of the counted regions.
        split: Splits to count; empty means all.
        rows: Maximum number of labels.
    """
    if isinstance(output, RegionOutput):
        output = summarize(output, min_score=min_score, split=split)
    labels = output.labels
    if not labels:
        return f"no labelled region has a score of at least {output.min_score:.2f}"
    cells = [("label", "regions", "images", "mean score")]
    cells += [
        (label.name, f"{label.regions:,}", f"{label.images:,}", _score(label.mean_score))
        for label in labels[:rows]
    ]
    lines = align(cells, right=True)
    total = sum(label.regions for label in labels)
    more = f", {rows} listed" if len(labels) > rows else ""
    lines.append(
        f"{total:,} of {output.regions:,} regions have a score of at least {output.min_score:.2f}: "
        f"{counted(len(labels), 'label')}{more}"
    )
    return "\n".join(lines)


def _score(score: float) -> str:
    return "-" if np.isnan(score) else f"{score:.2f}"


def _refuse_absent(output: RegionOutput, absent: set[str]) -> None:
    """Raise an error for splits that the output lacks; a split may consist of failures only."""
    # Read every split: with a limit, the counted images may not include all of them.
    existing = {
        value
        for batch in output.iter_batches(["split"], batch_size=4096)
        for value in batch.column("split").unique().to_pylist()
    }
    failed = set(output.failures()["split"].to_pylist())
    if unknown := sorted(absent - existing - failed):
        raise ValueError(
            f"{output.path} has no images in split {', '.join(unknown)}; choose from: "
            f"{', '.join(sorted(existing | failed))}"
        )
