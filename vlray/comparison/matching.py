"""Match the boxes of two sides.

Shapes: A: boxes of the image on side A; B: boxes of the image on side B; M: matched pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from vlray.regions.overlap import iou_of


@dataclass(frozen=True, eq=False)
class Matching:
    """Matched pairs of boxes in one image.

    Attributes:
        a: Index of each matched box on side A, ascending.
        b: Index of the partner of each box in ``a``, on side B.
        iou: IoU of each pair, in [0, 1].
    """

    a: Int64[np.ndarray, " M"]
    b: Int64[np.ndarray, " M"]
    iou: Float64[np.ndarray, " M"]

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.a)


def match(
    boxes_a: Float32[np.ndarray, "A 4"],
    boxes_b: Float32[np.ndarray, "B 4"],
    ids_a: Int32[np.ndarray, " A"] | None,
    ids_b: Int32[np.ndarray, " B"] | None,
    iou_thresh: float,
) -> Matching:
    """Match boxes one to one, greedily by descending IoU.

    The pair with the highest IoU is matched first, then the best pair among the boxes that are
    still free, down to ``iou_thresh``. A higher threshold therefore returns a subset of these
    pairs; an assignment that maximizes the total IoU does not guarantee this. If pairs have the
    same IoU (a detector may return one box with two classes), pairs with equal classes are matched
    first, then pairs with the smallest difference in rank.

    Args:
        boxes_a: Boxes of side A in pixels.
        boxes_b: Boxes of side B in pixels; both sides must use the same image size.
        ids_a: Class ids of side A; None: classes are ignored.
        ids_b: Class ids of side B, with the same numbering; None: classes are ignored.
        iou_thresh: Minimum IoU of a pair; even at 0, the boxes must overlap.
    """
    # Shortcut for identical sides: the greedy matching below would return the same pairs.
    same_classes = ids_a is None or ids_b is None or np.array_equal(ids_a, ids_b)
    if same_classes and np.array_equal(boxes_a, boxes_b):
        every = np.arange(len(boxes_a))
        return Matching(every, every, np.ones(len(every)))
    iou = iou_of(boxes_a, boxes_b)
    # Without the second condition, a threshold of 0 would match boxes that do not touch.
    rows, columns = np.nonzero((iou >= iou_thresh) & (iou > 0))
    values = iou[rows, columns]
    other_class = np.zeros(len(rows), bool)
    if ids_a is not None and ids_b is not None:
        other_class = ids_a[rows] != ids_b[columns]
    # np.lexsort sorts by its last key first: descending IoU, same class, rank difference, row.
    order = np.lexsort((rows, np.abs(rows - columns), other_class, -values))
    partner = np.full(len(boxes_a), -1, np.int64)
    free = np.ones(len(boxes_b), bool)
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if partner[row] < 0 and free[column]:
            partner[row] = column
            free[column] = False
    a = np.flatnonzero(partner >= 0)
    b = partner[a]
    return Matching(a, b, iou[a, b])
