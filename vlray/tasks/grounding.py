"""Scores of boxes: whether a predicted one is where the text says.

Intersections over unions are of continuous pixels, without the extra pixel of older code; 0.5 or
more is a hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlray.tasks.example import Boxes

IOU_THRESH = 0.5
CUTOFFS = (1, 5, 10)


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Give the intersection over union of two boxes, x1, y1, x2, y2 in pixels."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def box_score(label: Boxes, predicted: Any) -> float:
    """Give 1 if a predicted box hits one of the right ones (RefCOCO has one), else 0."""
    _check_box(predicted)
    return float(any(iou(box, predicted) >= IOU_THRESH for box in label.boxes))


def phrase_hits(label: Boxes, ranked: Any) -> dict[tuple[int, int], list[bool]]:
    """Say for each phrase whether its first 1, 5 and 10 predicted boxes hit.

    A hit is a box of the phrase, whichever (the "any box" protocol of Flickr30k Entities). A
    phrase without predicted boxes is missed.

    Args:
        label: Boxes with spans.
        ranked: The predicted boxes of each phrase, best first, phrases in the order of their spans
            in the label; empty: nothing is predicted.
    """
    spans = list(dict.fromkeys(label.spans))
    if len(ranked) not in (0, len(spans)):
        raise ValueError(
            f"{len(ranked)} phrases are predicted where there are {len(spans)}; give a list of "
            "boxes for each, an empty one where there is none"
        )
    hits = {}
    for place, span in enumerate(spans):
        right = [box for box, own in zip(label.boxes, label.spans, strict=True) if own == span]
        boxes = ranked[place] if ranked else []
        for box in boxes:
            _check_box(box)
        first = next(
            (
                rank
                for rank, box in enumerate(boxes)
                if any(iou(box, one) >= IOU_THRESH for one in right)
            ),
            None,
        )
        hits[span] = [first is not None and first < cutoff for cutoff in CUTOFFS]
    return hits


def _check_box(box: Any) -> None:
    if not isinstance(box, Sequence) or isinstance(box, str) or len(box) != 4:
        raise ValueError(f"a predicted box is {str(box)[:60]}; give x1, y1, x2, y2 in pixels")
