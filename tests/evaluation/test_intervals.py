"""Bootstrap intervals: as scipy has them, of the right size, and quick."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats

from vlray.evaluation.intervals import bootstrap_mean


@pytest.mark.parametrize(
    "values",
    [
        np.arange(300) % 3 == 0,
        np.array([0, 0.3, 0.6, 0.9, 1] * 40),
        np.random.default_rng(1).random(200),
        np.random.default_rng(2).random(1500),  # more than are told apart
    ],
    ids=["zeros and ones", "soft scores", "all different", "very many"],
)
def test_an_interval_is_scipys(values: np.ndarray) -> None:
    found = bootstrap_mean(values, 4000, seed=0)
    assert found is not None
    other = stats.bootstrap(
        (values.astype(float),), np.mean, method="percentile", n_resamples=4000, rng=1
    ).confidence_interval
    # Of 4,000 resamples a limit is sure to about a twentieth of the mean's spread.
    assert found == pytest.approx(tuple(other), abs=0.15 * values.std() / len(values) ** 0.5)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(400):
        found = bootstrap_mean(rng.random(150) < 0.7, 500, seed)
        assert found is not None
        covered += found.low <= 0.7 <= found.high
    assert 0.91 <= covered / 400 <= 0.98


def test_the_same_seed_draws_the_same_whatever_else_is_measured() -> None:
    values = [0.0, 1.0, 1.0, 0.3] * 20
    assert bootstrap_mean(values, 500, 3, "a") == bootstrap_mean(values, 500, 3, "a")
    assert bootstrap_mean(values, 500, 3, "a") != bootstrap_mean(values, 500, 3, "b")
    assert bootstrap_mean(values, 500, 3, "a") != bootstrap_mean(values, 500, 4, "a")


def test_there_is_no_interval_of_nothing() -> None:
    assert bootstrap_mean([1.0, 0.0], 0, 0) is None
    assert bootstrap_mean([], 1000, 0) is None
    assert bootstrap_mean([1.0] * 9, 1000, 0) == (1.0, 1.0)


def test_two_hundred_thousand_scores_are_resampled_in_seconds() -> None:
    scores = np.random.default_rng(0).choice([0, 0.3, 0.6, 0.9, 1], 200_000)
    started = time.process_time()
    found = bootstrap_mean(scores, 10_000, 0)
    assert time.process_time() - started < 10
    assert found is not None
    width = 1.96 * scores.std() / len(scores) ** 0.5
    assert (found.high - found.low) / 2 == pytest.approx(width, rel=0.05)
