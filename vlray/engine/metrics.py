"""Training metrics at Ray's metrics endpoint, which Prometheus reads for the Ray dashboard."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

from vlray.runs.metrics import Record, metrics_of

TAGS = ("project", "run")
SECONDS_BETWEEN = 2.0


class RayMetrics:
    """Tracker with one gauge per kind of record and metric, such as ``ray_vlray_train_loss``."""

    name = "Ray's metrics endpoint"

    def __init__(self, folder: Path) -> None:
        """Tag the gauges with project and run: the names of the folder's parent and the folder."""
        path = folder.absolute()
        self._tags = {"project": path.parent.name, "run": path.name}
        self._gauges: dict[str, Any] = {}
        self._values: dict[str, float] = {}
        self._updated, self._examples = time.monotonic(), 0

    def progress(self, step: int, loss: float, lr: float, examples: int) -> None:
        """Update the gauges after a step, at most every 2 s; arguments as in `Watch.progress`."""
        self._examples += examples
        seconds = time.monotonic() - self._updated
        if seconds >= SECONDS_BETWEEN:
            speed = {"train_examples_per_s": self._examples / seconds}
            self._update({"train_step": step, "train_loss": loss, "train_lr": lr, **speed})

    def add(self, record: Record) -> None:
        """Update the gauges with the metrics in a record."""
        kind = record["kind"]
        self._update({f"{kind}_{name}": value for name, value in metrics_of(record).items()})

    def _update(self, values: dict[str, float]) -> None:
        """Set all gauges, even unchanged ones: the endpoint drops gauges that are not set again."""
        self._updated, self._examples = time.monotonic(), 0
        self._values |= values
        for name, value in self._values.items():
            self._gauge(f"vlray_{name}").set(value)

    def close(self) -> None:
        """Do nothing: gauges need no closing."""

    def _gauge(self, name: str) -> Any:
        """Return a metric's gauge; characters that Prometheus refuses are replaced by ``_``."""
        from ray.util.metrics import Gauge

        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        if name not in self._gauges:
            gauge = Gauge(name, "Metric of a vlray training", TAGS)
            self._gauges[name] = gauge.set_default_tags(self._tags)
        return self._gauges[name]


def in_ray() -> bool:
    """Return whether this process is connected to Ray, without importing Ray."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())
