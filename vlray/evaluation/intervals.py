"""How sure a figure is: percentile bootstrap intervals of means, drawn without the examples."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

CONFIDENCE = 0.95
MOST_DIFFERENT = 1024
"""More values than these are told apart by as many steps of their range."""

DRAWN_AT_ONCE = 2**20


class Interval(NamedTuple):
    """Where a figure lies with 95 % confidence."""

    low: float
    high: float


def bootstrap_mean(
    values: Sequence[float] | Float64[np.ndarray, N], resamples: int, seed: int, name: str = ""
) -> Interval | None:
    """Give the percentile bootstrap interval of a mean.

    A resample draws as many values as there are, with replacement. Only how often each different
    value is drawn matters to the mean, and these counts are multinomial: a figure of 200,000
    zeros and ones takes no longer than one of ten.

    Args:
        values: Of the examples; or of whatever was drawn as a whole (the sentences of NLVR).
        resamples: How often is drawn; 0: there is no interval.
        seed: Of what is drawn.
        name: Of the figure: each draws its own numbers, whatever others are asked for.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    if not resamples or not len(values):
        return None
    different, counts = _different(np.asarray(values, np.float64))
    shares = counts / counts.sum()
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    means = np.empty(resamples)
    step = max(1, DRAWN_AT_ONCE // len(different))
    for start in range(0, resamples, step):
        part = means[start : start + step]
        drawn = rng.multinomial(len(values), shares, size=len(part))
        part[:] = drawn @ different / len(values)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def _different(
    values: Float64[np.ndarray, N],
) -> tuple[Float64[np.ndarray, K], Int64[np.ndarray, K]]:
    """Give the different values and how often there is each; near ones by their mean, if many."""
    different, counts = np.unique(values, return_counts=True)
    if len(different) <= MOST_DIFFERENT:
        return different, counts
    low, high = different[0], different[-1]
    bins = ((values - low) / (high - low) * (MOST_DIFFERENT - 1)).astype(np.int64)
    counts = np.bincount(bins)
    sums = np.bincount(bins, weights=values)
    return sums[counts > 0] / counts[counts > 0], counts[counts > 0]
