"""Find the partner of each box.

Shapes: A and B boxes of one image on the two sides, M of them matched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from vlray.regions.overlap import iou_of


@dataclass(frozen=True, eq=False)
class Matching:
    """The boxes of one image that belong together.

    Attributes:
        a: Index of each matched box on side A, rising.
        b: Its partner's index on side B.
        iou: Of the two, in [0, 1].
    """

    a: Int64[np.ndarray, " M"]
    b: Int64[np.ndarray, " M"]
    iou: Float64[np.ndarray, " M"]

    def __len__(self) -> int:
        """Give the number of pairs."""
        return len(self.a)


def match(
    boxes_a: Float32[np.ndarray, "A 4"],
    boxes_b: Float32[np.ndarray, "B 4"],
    ids_a: Int32[np.ndarray, " A"] | None,
    ids_b: Int32[np.ndarray, " B"] | None,
    iou_thresh: float,
) -> Matching:
    """Match boxes one to one, greedily by falling IoU.

    The pair of the highest IoU is taken first, then the highest of those whose boxes are both
    still free, down to ``iou_thresh``. So the matches at a higher threshold are just those of
    these pairs that reach it, which a matching of the best total IoU does not give. Where several
    pairs have the same IoU (a detector may give one box with two classes), pairs of one class
    come first, then those of the nearest rank.

    Args:
        boxes_a: Boxes of side A in pixels.
        boxes_b: Boxes of side B in pixels of an image of the same size.
        ids_a: Classes of side A; None: they do not matter.
        ids_b: Classes of side B, in the same numbering.
        iou_thresh: Least IoU of a pair; at 0 they still have to overlap.
    """
    same_classes = ids_a is None or ids_b is None or np.array_equal(ids_a, ids_b)
    if same_classes and np.array_equal(boxes_a, boxes_b):
        every = np.arange(len(boxes_a))  # what the rest of this function would find, too
        return Matching(every, every, np.ones(len(every)))
    iou = iou_of(boxes_a, boxes_b)
    rows, columns = np.nonzero((iou >= iou_thresh) & (iou > 0))
    values = iou[rows, columns]
    other_class = np.zeros(len(rows), bool)
    if ids_a is not None and ids_b is not None:
        other_class = ids_a[rows] != ids_b[columns]
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
