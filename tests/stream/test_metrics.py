"""What a pipeline and a training hand to Ray's metrics; test_jobs.py reads it at the endpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import ray.util.metrics

from vlray.config.training import WatchSection
from vlray.engine.watch import Watch
from vlray.stream.metrics import COUNTERS, GAUGES, ExtractMetrics

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[float, dict[str, str]]]]:
    """Every value that is recorded, by the metric's name; Ray gets it as well."""
    found: dict[str, list[tuple[float, dict[str, str]]]] = {}
    record = ray.util.metrics.Metric._record

    def keep(self: Any, value: float, tags: dict[str, str] | None = None) -> None:
        found.setdefault(self._name, []).append((value, self._default_tags))
        record(self, value, tags)

    monkeypatch.setattr(ray.util.metrics.Metric, "_record", keep)
    return found


def test_a_run_counts_what_came_out_and_what_is_left(
    recorded: dict[str, list[tuple[float, dict[str, str]]]],
) -> None:
    metrics = ExtractMetrics("story", "extract-1", images=10, shards=3)
    metrics.show(waiting=2)
    metrics.add({"images": 3, "failed": 1, "regions": 30, "bytes": 500})
    metrics.add({"images": 4, "failed": 0, "regions": 40, "bytes": 600})
    metrics.show(waiting=5)  # Ray counted before the last shard came out

    def values(name: str) -> list[float]:
        return [value for value, _ in recorded[name]]

    assert recorded.keys() == COUNTERS.keys() | GAUGES.keys()
    assert {tuple(tags.values()) for name in recorded for _, tags in recorded[name]} == {
        ("story", "extract-1")
    }
    assert values("vlray_images") == [3, 4]
    assert values("vlray_failures") == [1]
    assert values("vlray_regions") == [30, 40]
    assert values("vlray_bytes") == [500, 600]
    assert values("vlray_images_left") == [10, 10, 6, 2, 2]
    assert values("vlray_shards_waiting") == [3, 2, 2, 1, 1]
    assert values("vlray_shards_in_flight") == [0, 1, 0, 0, 0]
    assert values("vlray_images_per_second")[:2] == [0, 0]
    assert 0 < values("vlray_images_per_second")[-1] <= 8


def test_a_training_in_ray_gives_its_figures_as_gauges(
    recorded: dict[str, list[tuple[float, dict[str, str]]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "story" / "train-20261124-201500"
    with Watch(folder, WatchSection(tensorboard=False), steps=9, title="it") as watch:
        watch.progress(4, 3.0, 1e-3, 8)  # too early to be shown again
        assert not recorded
        watch.step(5, {"loss": 2.5, "loss/mlm": math.nan, "examples_per_s": 31.0})
        watch.evaluated(6, {"accuracy": 50.0})
        monkeypatch.setattr("vlray.engine.metrics.SECONDS_BETWEEN", 0.0)
        watch.progress(7, 2.0, 1e-3, 8)
    tags = {"project": "story", "run": "train-20261124-201500"}
    assert {tuple(sorted(found.items())) for name in recorded for _, found in recorded[name]} == {
        tuple(sorted(tags.items()))
    }
    shown = {name: [value for value, _ in found] for name, found in recorded.items()}
    assert shown["vlray_train_step"] == [7]
    assert shown["vlray_train_loss"] == [2.5, 2.5, 2.0]  # each time all of them
    assert shown["vlray_train_examples_per_s"][:2] == [31, 31]
    assert shown["vlray_valid_accuracy"] == [50, 50]
    assert math.isnan(shown["vlray_train_loss_mlm"][0])
