"""How a figure is spread over any number of boxes, in memory that does not grow with them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

_GROWTH = math.log(1.01)  # bins are 1 % wide, so a percentile is within half of that
_SMALLEST, _LARGEST = 1e-16, 1e16
_BINS = math.ceil(math.log(_LARGEST / _SMALLEST) / _GROWTH) + 2


@dataclass
class Spread:
    """Distances from what is perfect: 1 - IoU, 1 - cosine, relative L2, a difference of scores.

    Count, mean and worst are exact. A percentile is within 0.5 % of the true distance, so a cosine
    of .999 is known to 5e-6 and one of .999999 to 5e-9.
    """

    count: int = 0
    total: float = 0.0
    worst: float = 0.0
    _bins: np.ndarray = field(default_factory=lambda: np.zeros(_BINS, np.int64), repr=False)

    def add(self, distances: Float64[np.ndarray, " M"]) -> None:
        """Count some distances; all of them are finite and not negative."""
        if not len(distances):
            return
        self.count += len(distances)
        self.total += float(distances.sum())
        self.worst = max(self.worst, float(distances.max()))
        # Bin 0 is for "no distance at all", which is what many comparisons hope for.
        logs = np.log(np.maximum(distances, _SMALLEST) / _SMALLEST) / _GROWTH
        bins = np.where(distances < _SMALLEST, 0, 1 + logs.astype(np.int64))
        np.add.at(self._bins, bins.clip(max=_BINS - 1), 1)

    @property
    def mean(self) -> float:
        """Give the mean; 0 where nothing was counted."""
        return self.total / max(self.count, 1)

    def percentile(self, share: float) -> float:
        """Give the distance that a share of the values, such as .95, does not exceed."""
        rank = max(math.ceil(share * self.count), 1)
        index = int(np.searchsorted(np.cumsum(self._bins), rank))
        if index == 0 or not self.count:
            return 0.0
        return min(_SMALLEST * math.exp((index - 0.5) * _GROWTH), self.worst)
