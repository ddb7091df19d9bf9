"""Percentiles of a metric over any number of boxes, in constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

_GROWTH = math.log(1.01)  # bins are 1 % wide, so a percentile is accurate to 0.5 %
# Just below 1, float64 has steps of 1.1e-16: smaller distances are rounding.
_SMALLEST, _LARGEST = 1e-16, 1e16
_BINS = math.ceil(math.log(_LARGEST / _SMALLEST) / _GROWTH) + 2


@dataclass
class Spread:
    """Histogram of distances from a perfect match, such as 1 - IoU, 1 - cosine or relative L2.

    Count, mean and worst are exact. Percentiles are accurate to 0.5 % of the distance: a cosine of
    .999 is accurate to 5e-6, one of .999999 to 5e-9.

    Attributes:
        count: Number of distances.
        total: Sum of the distances.
        worst: Largest distance.
    """

    count: int = 0
    total: float = 0.0
    worst: float = 0.0
    _bins: np.ndarray = field(default_factory=lambda: np.zeros(_BINS, np.int64), repr=False)

    def add(self, distances: Float64[np.ndarray, " M"]) -> None:
        """Add distances, which must be finite and non-negative."""
        if not len(distances):
            return
        self.count += len(distances)
        self.total += float(distances.sum())
        self.worst = max(self.worst, float(distances.max()))
        # Bin 0 holds distances that are zero or nearly zero: zero has no logarithm.
        logs = np.log(np.maximum(distances, _SMALLEST) / _SMALLEST) / _GROWTH
        bins = np.where(distances < _SMALLEST, 0, 1 + logs.astype(np.int64))
        # Unlike `+=` with an index array, np.add.at counts repeated bins.
        np.add.at(self._bins, bins.clip(max=_BINS - 1), 1)

    @property
    def mean(self) -> float:
        """Mean distance; 0 if none was added."""
        return self.total / max(self.count, 1)

    def percentile(self, share: float) -> float:
        """Return the distance that this share of the values, such as 0.95, does not exceed."""
        rank = max(math.ceil(share * self.count), 1)
        index = int(np.searchsorted(np.cumsum(self._bins), rank))
        if index == 0 or not self.count:
            return 0.0
        # The geometric middle of the bin, but no more than the exact maximum.
        return min(_SMALLEST * math.exp((index - 0.5) * _GROWTH), self.worst)
