"""Confidence intervals for means, by the percentile bootstrap.

Shapes: N: values; K: distinct values or bins.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

CONFIDENCE = 0.95
MAX_DISTINCT = 1024
"""Maximum number of distinct values; if there are more, they are grouped into this many bins."""

DRAWN_AT_ONCE = 2**20
"""Maximum number of counts drawn per batch of resamples, to limit memory."""


class Interval(NamedTuple):
    """A 95 % confidence interval."""

    low: float
    high: float


def bootstrap_mean(
    values: Sequence[float] | Float64[np.ndarray, N], resamples: int, seed: int, name: str = ""
) -> Interval | None:
    """Compute the percentile bootstrap interval for a mean.

    A resample draws ``len(values)`` values with replacement. Its mean depends only on how often
    each distinct value is drawn, and these counts follow a multinomial distribution. Therefore,
    200,000 zeros and ones take no longer than ten.

    Args:
        values: Scores of the units that are resampled: examples or, in NLVR, whole sentences.
        resamples: Number of resamples; 0: no interval.
        seed: Random seed.
        name: Name of the metric. Each name has its own random stream, so an interval does not
            depend on which other metrics are computed.

    Returns:
        The interval; None if there are no resamples or no values.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    if not resamples or not len(values):
        return None
    distinct, counts = _distinct(np.asarray(values, np.float64))
    shares = counts / counts.sum()
    # crc32 instead of hash(): Python randomizes hashes of strings in each process.
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    means = np.empty(resamples)
    # All resamples at once would need resamples x distinct values of memory.
    step = max(1, DRAWN_AT_ONCE // len(distinct))
    for start in range(0, resamples, step):
        part = means[start : start + step]
        draws = rng.multinomial(len(values), shares, size=len(part))
        part[:] = draws @ distinct / len(values)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def _distinct(
    values: Float64[np.ndarray, N],
) -> tuple[Float64[np.ndarray, K], Int64[np.ndarray, K]]:
    """Return the distinct values and their counts; if too many, bin means and bin counts."""
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= MAX_DISTINCT:
        return distinct, counts
    low, high = distinct[0], distinct[-1]
    bins = ((values - low) / (high - low) * (MAX_DISTINCT - 1)).astype(np.int64)
    counts = np.bincount(bins)
    # Replacing values by the mean of their bin keeps the overall mean exact.
    sums = np.bincount(bins, weights=values)
    return sums[counts > 0] / counts[counts > 0], counts[counts > 0]
