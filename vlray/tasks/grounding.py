"""Scores of boxes: whether a predicted one is where the text says.

Intersections over unions are of continuous pixels, without the extra pixel of older code; 0.5 or
more is a hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vlray.regions.overlap import iou_of
from vlray.tasks.example import Boxes

IOU_THRESH = 0.5
CUTOFFS = (1, 5, 10)


def box_score(label: Boxes, predicted: Any) -> float:
    """Give 1 if a predicted box hits one of the right ones (RefCOCO has one), else 0."""
    return float(_hits(label.boxes, predicted))


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
        found = [_hits(right, box) for box in boxes]
        hits[span] = [any(found[:cutoff]) for cutoff in CUTOFFS]
    return hits


def _hits(right: Sequence[Sequence[float]], box: Any) -> bool:
    if not isinstance(box, Sequence) or isinstance(box, str) or len(box) != 4:
        raise ValueError(f"a predicted box is {str(box)[:60]}; give x1, y1, x2, y2 in pixels")
    boxes = np.array(right, np.float64).reshape(-1, 4)
    return bool((iou_of(boxes, np.array([box], np.float64)) >= IOU_THRESH).any())
