"""Non-maximum suppression for many images at once, at any threshold, from stored overlaps.

Shapes: P: boxes of all images; E: pairs of overlapping boxes within a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32, Int64

from vlray.regions.overlap import iou_of_pairs

_PAIRS = 1 << 20  # pairs compared at a time: 100 MiB of intermediate results
_KEPT = 32 << 20  # maximum number of stored pairs, 16 bytes each; others are recomputed every time


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Pairs of boxes that overlap, in descending order of IoU.

    Attributes:
        first: Index of the pair's first box in its group, which has the higher score.
        second: Index of the other box.
        iou: IoU of the two boxes, greater than 0.
    """

    first: Int32[np.ndarray, " E"]
    second: Int32[np.ndarray, " E"]
    iou: Float64[np.ndarray, " E"]

    def above(self, thresh: float) -> tuple[Int32[np.ndarray, " E"], Int32[np.ndarray, " E"]]:
        """Return the pairs whose IoU is above a threshold."""
        end = len(self.iou) - int(np.searchsorted(self.iou[::-1], thresh, side="right"))
        return self.first[:end], self.second[:end]


class Suppression:
    """NMS over boxes that are sorted by score within each group.

    A box survives unless an earlier survivor of its group overlaps it with an IoU above the
    threshold. IoUs are computed in float64 on the CPU, from the two boxes alone; for float32 boxes
    they are practically exact. The same boxes therefore lead to the same result on every device,
    regardless of which other boxes are processed with them.
    """

    def __init__(self, boxes: Float[np.ndarray, "P 4"], groups: Int64[np.ndarray, " P"]) -> None:
        """Sort the boxes by group.

        Args:
            boxes: ``(x1, y1, x2, y2)`` of all groups, in descending order of score within each.
            groups: ID of each box's group, which is its image or its image and class.
        """
        self._boxes = boxes
        self._order = np.argsort(groups, kind="stable")
        sizes = np.unique(groups, return_counts=True)[1]
        # For each box, the number of boxes after it in its group.
        self._left = np.repeat(np.cumsum(sizes), sizes) - np.arange(1, len(groups) + 1)
        self._stored: list[Overlaps] = []  # for _order[:_stored_end]
        self._stored_end = 0

    def remember(self) -> None:
        """Compute and store the overlaps for as many boxes as ``_KEPT`` allows."""
        num_pairs = sum(len(overlaps.iou) for overlaps in self._stored)
        for overlaps, end in self._find(self._stored_end):
            num_pairs += len(overlaps.iou)
            if num_pairs > _KEPT:
                break
            self._stored.append(overlaps)
            self._stored_end = end

    def survivors(self, thresh: float) -> Bool[np.ndarray, " P"]:
        """Return which boxes survive at an IoU threshold."""
        survives = np.ones(len(self._boxes), bool)
        for first, second in self.pairs(thresh):
            _suppress(first, second, survives)
        return survives

    def pairs(
        self, thresh: float
    ) -> Iterator[tuple[Int32[np.ndarray, " E"], Int32[np.ndarray, " E"]]]:
        """Yield the pairs of boxes whose IoU is above a threshold, a few groups at a time."""
        if thresh >= 1:
            return  # no IoU is above 1
        for overlaps in self._stored:
            yield overlaps.above(thresh)
        for overlaps, _ in self._find(self._stored_end):
            yield overlaps.above(thresh)

    def _find(self, start: int) -> Iterator[tuple[Overlaps, int]]:
        """Yield the overlaps within a few groups at a time, and where the next group starts.

        Args:
            start: Index into ``_order`` at which the first group starts.
        """
        pairs = np.cumsum(self._left)  # number of pairs up to each box, in _order
        ends = np.flatnonzero(self._left == 0) + 1  # end index of each group
        while start < len(self._left):
            # As many groups as have at most _PAIRS pairs together, but at least one group.
            limit = _PAIRS + (pairs[start - 1] if start else 0)
            at = int(np.searchsorted(pairs[ends - 1], limit, side="right")) - 1
            end = int(ends[max(at, int(np.searchsorted(ends, start, side="right")))])
            yield self._compare(start, end), end
            start = end

    def _compare(self, start: int, end: int) -> Overlaps:
        """Compute the overlaps within the groups in ``_order[start:end]``."""
        # Pair each box with every box after it in its group.
        partners = self._left[start:end]
        begin = np.cumsum(partners) - partners
        first = np.repeat(np.arange(start, end), partners)
        second = first + 1 + np.arange(len(first)) - np.repeat(begin, partners)
        columns = np.ascontiguousarray(self._boxes[self._order[start:end]].T)
        a, b = first - start, second - start
        # Comparing corners is exact and fast, and most pairs do not intersect at all.
        meet = np.ones(len(first), bool)
        for low, high in ((0, 2), (1, 3)):
            meet &= columns[low][a] < columns[high][b]
            meet &= columns[low][b] < columns[high][a]
        rows = meet.nonzero()[0]
        exact = columns.astype(np.float64)
        iou = iou_of_pairs(exact[:, a[rows]], exact[:, b[rows]])
        falling = np.argsort(-iou, kind="stable")
        falling = falling[iou[falling] > 0]
        rows = rows[falling]
        return Overlaps(
            self._order[first[rows]].astype(np.int32),
            self._order[second[rows]].astype(np.int32),
            iou[falling],
        )


def _suppress(
    first: Int32[np.ndarray, " E"],
    second: Int32[np.ndarray, " E"],
    survives: Bool[np.ndarray, " P"],
) -> None:
    """Mark the boxes that NMS suppresses, given the pairs above the threshold.

    In each round, boxes that no undecided better box overlaps survive, and suppress the boxes that
    they overlap. The result is the same as with a loop from the best box to the worst, but a few
    rounds are enough for all images together.

    Args:
        first: Index of the box with the higher score in each pair.
        second: Index of the other box.
        survives: Updated in place: set to False for each suppressed box.
    """
    undecided = np.zeros(len(survives), bool)
    undecided[second] = True  # no better box overlaps the others, so they survive
    while len(first):
        free = ~undecided[first]  # these survive: pairs of suppressed boxes are dropped below
        gone = second[free]
        survives[gone] = False
        undecided[gone] = False
        # A suppressed box suppresses no other box, and a decided box needs no more pairs.
        rest = ~free & survives[first] & undecided[second]
        first, second = first[rest], second[rest]
        undecided = np.zeros(len(survives), bool)
        undecided[second] = True
