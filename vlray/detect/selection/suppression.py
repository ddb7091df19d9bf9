"""Non-maximum suppression of many images at once, at any threshold, from overlaps found once.

Shapes: P boxes of all images together, G groups (boxes of one group suppress each other), E pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32, Int64

from vlray.regions.overlap import iou_of_pairs

_PAIRS = 1 << 20  # compared at a time: 100 MiB of intermediate results
_KEPT = 32 << 20  # remembered at most, 16 bytes each; beyond it they are found again every time


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Pairs of boxes that lie on one another, by falling IoU.

    Attributes:
        first: The box of the pair that comes first, and so has the higher score.
        second: The other one.
        iou: Of the two, above 0.
    """

    first: Int32[np.ndarray, " E"]
    second: Int32[np.ndarray, " E"]
    iou: Float64[np.ndarray, " E"]

    def above(self, thresh: float) -> tuple[Int32[np.ndarray, " E"], Int32[np.ndarray, " E"]]:
        """Give the pairs whose IoU is above a threshold."""
        end = len(self.iou) - int(np.searchsorted(self.iou[::-1], thresh, side="right"))
        return self.first[:end], self.second[:end]


class Suppression:
    """Boxes in the order of their rank, and which of them survive at a threshold.

    A box survives unless one that survives comes before it in its group and their IoU is above
    the threshold. IoUs are computed in float64, where those of float32 boxes are as good as exact,
    from the boxes alone: so the same boxes give the same answer on every device, whatever else is
    decided beside them.
    """

    def __init__(self, boxes: Float[np.ndarray, "P 4"], groups: Int64[np.ndarray, " P"]) -> None:
        """Take boxes ``(x1, y1, x2, y2)`` by falling score within each group.

        Args:
            boxes: Of all groups.
            groups: The group of each, a number: its image, or its image and class.
        """
        self._boxes = boxes
        self._order = np.argsort(groups, kind="stable")
        sizes = np.unique(groups, return_counts=True)[1]
        self._left = np.repeat(np.cumsum(sizes), sizes) - np.arange(1, len(groups) + 1)
        self._remembered: list[Overlaps] = []  # of the boxes before _known, in _order
        self._known = 0

    def remember(self) -> None:
        """Find the overlaps now, for as many boxes as there is memory for."""
        kept = sum(len(overlaps.iou) for overlaps in self._remembered)
        for overlaps, end in self._find(self._known):
            kept += len(overlaps.iou)
            if kept > _KEPT:
                break
            self._remembered.append(overlaps)
            self._known = end

    def survivors(self, thresh: float) -> Bool[np.ndarray, " P"]:
        """Tell which boxes survive."""
        survives = np.ones(len(self._boxes), bool)
        for first, second in self.pairs(thresh):
            _suppress(first, second, survives)
        return survives

    def pairs(
        self, thresh: float
    ) -> Iterator[tuple[Int32[np.ndarray, " E"], Int32[np.ndarray, " E"]]]:
        """Yield the boxes whose IoU is above a threshold, pair by pair: some groups at a time."""
        if thresh >= 1:
            return  # no IoU is
        for overlaps in self._remembered:
            yield overlaps.above(thresh)
        for overlaps, _ in self._find(self._known):
            yield overlaps.above(thresh)

    def _find(self, start: int) -> Iterator[tuple[Overlaps, int]]:
        """Yield the overlaps of whole groups, and where the next group begins."""
        pairs = np.cumsum(self._left)  # up to each box, in _order
        ends = np.flatnonzero(self._left == 0) + 1  # of the groups
        while start < len(self._left):
            limit = _PAIRS + (pairs[start - 1] if start else 0)
            at = int(np.searchsorted(pairs[ends - 1], limit, side="right")) - 1
            end = int(ends[max(at, int(np.searchsorted(ends, start, side="right")))])
            yield self._compare(start, end), end
            start = end

    def _compare(self, start: int, end: int) -> Overlaps:
        """Find the overlaps among some groups."""
        partners = self._left[start:end]
        begin = np.cumsum(partners) - partners
        first = np.repeat(np.arange(start, end), partners)
        second = first + 1 + np.arange(len(first)) - np.repeat(begin, partners)
        columns = np.ascontiguousarray(self._boxes[self._order[start:end]].T)
        a, b = first - start, second - start
        # Comparing is exact and quick, and most pairs end here.
        meet = np.ones(len(first), bool)
        for low, high in ((0, 2), (1, 3)):
            meet &= columns[low][a] < columns[high][b]
            meet &= columns[low][b] < columns[high][a]
        found = meet.nonzero()[0]
        exact = columns.astype(np.float64)
        iou = iou_of_pairs(exact[:, a[found]], exact[:, b[found]])
        falling = np.argsort(-iou, kind="stable")
        falling = falling[iou[falling] > 0]
        found = found[falling]
        return Overlaps(
            self._order[first[found]].astype(np.int32),
            self._order[second[found]].astype(np.int32),
            iou[falling],
        )


def _suppress(
    first: Int32[np.ndarray, " E"],
    second: Int32[np.ndarray, " E"],
    survives: Bool[np.ndarray, " P"],
) -> None:
    """Settle the boxes of some pairs.

    In each round, boxes with no undecided one before them survive, and those after them go. That
    ends where a walk from the best box to the worst would, in a few rounds for all images.
    """
    undecided = np.zeros(len(survives), bool)
    undecided[second] = True  # the others have nothing before them: they survive
    while len(first):
        free = ~undecided[first]  # and not suppressed: such pairs are gone
        gone = second[free]
        survives[gone] = False
        undecided[gone] = False
        # What is suppressed suppresses nothing any more; what is decided needs no pair.
        rest = ~free & survives[first] & undecided[second]
        first, second = first[rest], second[rest]
        undecided = np.zeros(len(survives), bool)
        undecided[second] = True
