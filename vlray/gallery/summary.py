"""Count what an output holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlray.gallery.entries import read_entries
from vlray.pages.labels import name_of
from vlray.regions.output import RegionOutput
from vlray.settings.text_table import align


@dataclass(frozen=True)
class LabelCount:
    """One object class of the regions with at least a certain score.

    ``mean_score`` is NaN where labels have no scores.
    """

    name: str
    regions: int
    images: int
    mean_score: float


@dataclass(frozen=True)
class Summary:
    """Images and regions of an output, as far as they were asked for.

    Attributes:
        image_ids: In the order of the output.
        regions: All of them, whatever their score.
        few: Images with fewer regions than the detector's ``min_boxes``.
        labels: Of regions with at least ``min_score``, most frequent first.
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
    """Read an output once, without its vectors, and count.

    Raises:
        ValueError: A split has neither images nor failures in the output.
    """
    min_boxes = int(output.info.settings.get("detector.min_boxes", 0))
    image_ids: list[str] = []
    splits: set[str] = set()
    regions = few = 0
    sums: dict[int, np.ndarray] = {}  # regions, images, scores
    for entry in read_entries(output, split=split, limit=limit):
        image_ids.append(entry.image_id)
        splits.add(entry.split)
        regions += len(entry)
        few += len(entry) < min_boxes
        above = entry.above(min_score)
        for label in np.unique(above.obj_ids).tolist():
            rows = above.obj_ids == label
            scores = above.obj_probs[rows] if len(above.obj_probs) else np.array([np.nan])
            row = sums.setdefault(label, np.zeros(3))
            row += [rows.sum(), 1, scores.sum(dtype=np.float64)]
    if absent := set(split) - splits:
        _refuse_absent(output, absent)
    labels = [
        LabelCount(name_of(label, output.obj_names), int(row[0]), int(row[1]), row[2] / row[0])
        for label, row in sums.items()
    ]
    labels.sort(key=lambda label: (-label.regions, label.name))
    return Summary(tuple(image_ids), regions, few, min_boxes, min_score, tuple(labels))


def table(
    output: RegionOutput | Summary,
    *,
    min_score: float = 0.3,
    split: Sequence[str] = (),
    rows: int = 15,
) -> str:
    """Print the most frequent labels of an output as lines of aligned text.

    Args:
        output: An output, or the counts of one; these were made with a ``min_score`` already.
        min_score: Regions below it are not counted.
        split: Only images of these splits; empty means all.
        rows: Labels at most.
    """
    if isinstance(output, RegionOutput):
        output = summarize(output, min_score=min_score, split=split)
    found = output.labels
    if not found:
        return f"no labelled region with a score of at least {output.min_score:.2f}"
    cells = [("label", "regions", "images", "mean score")]
    cells += [
        (label.name, f"{label.regions:,}", f"{label.images:,}", _score(label.mean_score))
        for label in found[:rows]
    ]
    lines = align(cells, right=True)
    total = sum(label.regions for label in found)
    more = f", {rows} shown" if len(found) > rows else ""
    lines.append(
        f"{total:,} of {output.regions:,} regions score at least {output.min_score:.2f}: "
        f"{len(found):,} labels{more}"
    )
    return "\n".join(lines)


def _score(score: float) -> str:
    return "-" if np.isnan(score) else f"{score:.2f}"


def _refuse_absent(output: RegionOutput, absent: set[str]) -> None:
    there = {
        value
        for batch in output.iter_batches(["split"], batch_size=4096)
        for value in batch.column("split").unique().to_pylist()
    }
    failed = set(output.failures()["split"].to_pylist())
    if unknown := sorted(absent - there - failed):
        raise ValueError(
            f"no image of {output.path} is of split {', '.join(map(repr, unknown))}; "
            f"its splits are {sorted(there | failed)}"
        )
