"""Score predicted boxes for visual grounding.

A predicted box is a hit if its intersection over union with a correct box is at least 0.5.
Coordinates are continuous: areas do not include the extra pixel that older code adds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlray.regions.overlap import iou_of
from vlray.tasks.example import Boxes

IOU_THRESH = 0.5
CUTOFFS = (1, 5, 10)


def box_score(label: Boxes, predicted: object) -> float:
    """Return 1 if a predicted box hits a correct box (RefCOCO has one), else 0."""
    return float(_hits(label.boxes, predicted))


def phrase_hits(
    label: Boxes, ranked: Sequence[Sequence[object]]
) -> dict[tuple[int, int], list[bool]]:
    """Return for each phrase whether any of its first 1, 5 and 10 predicted boxes is a hit.

    A hit on any of the phrase's boxes counts (the "any box" protocol of Flickr30k Entities). A
    phrase without predicted boxes is a miss.

    Args:
        label: Boxes with spans.
        ranked: For each phrase, its predicted boxes, best first. The phrases are in the order in
            which their spans first appear in the label. Empty: no predictions.

    Returns:
        Three booleans per phrase, keyed by the phrase's span.

    Raises:
        ValueError: The number of phrases differs from the label's, or a box is not four numbers.
    """
    # A phrase with several boxes repeats its span.
    spans = list(dict.fromkeys(label.spans))
    if len(ranked) not in (0, len(spans)):
        raise ValueError(
            f"{len(ranked)} phrases have predictions, but the example has {len(spans)}; pass one "
            "list of boxes per phrase, empty if there is none"
        )
    hits = {}
    for index, span in enumerate(spans):
        right = [box for box, other in zip(label.boxes, label.spans, strict=True) if other == span]
        boxes = ranked[index] if ranked else []
        is_hit = [_hits(right, box) for box in boxes]
        hits[span] = [any(is_hit[:cutoff]) for cutoff in CUTOFFS]
    return hits


def _hits(right: Sequence[Sequence[float]], box: object) -> bool:
    if not isinstance(box, Sequence) or isinstance(box, str) or len(box) != 4:
        raise ValueError(f"a predicted box is {str(box)[:60]}; pass x1, y1, x2, y2 in pixels")
    # Without correct boxes, the array would have one dimension only.
    boxes = np.array(right, np.float64).reshape(-1, 4)
    return bool((iou_of(boxes, np.array([box], np.float64)) >= IOU_THRESH).any())
