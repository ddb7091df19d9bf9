"""Percentiles without keeping the values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.comparison.spread import Spread

DISTANCES = st.one_of(st.just(0.0), st.floats(1e-15, 1e6))


def spread_of(values: np.ndarray, at_once: int = 7) -> Spread:
    spread = Spread()
    for start in range(0, len(values), at_once):
        spread.add(values[start : start + at_once])
    return spread


@given(st.lists(DISTANCES, min_size=1, max_size=60), st.sampled_from([0.5, 0.95, 0.99]))
def test_percentiles_are_within_half_a_percent(values: list[float], share: float) -> None:
    array = np.array(values)
    expected = np.percentile(array, 100 * share, method="inverted_cdf")
    assert spread_of(array).percentile(share) == pytest.approx(expected, rel=0.00501, abs=1e-16)


def test_count_mean_and_worst_are_exact() -> None:
    values = np.random.default_rng(0).lognormal(-8, 3, 1_000)
    spread = spread_of(values)
    assert spread.count == 1_000
    assert spread.mean == pytest.approx(values.mean(), rel=1e-12)
    assert spread.worst == values.max()
    assert spread.percentile(1) == pytest.approx(values.max(), rel=0.00501)


def test_nothing_differs_by_nothing() -> None:
    assert (Spread().mean, Spread().percentile(0.5)) == (0, 0)
    same = spread_of(np.zeros(100))
    assert (same.mean, same.percentile(0.5), same.percentile(0.99), same.worst) == (0, 0, 0, 0)
