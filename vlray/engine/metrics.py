"""The figures of a training at Ray's metrics endpoint, which the dashboard's Prometheus reads."""

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
    """A tracker whose gauges have a figure's kind and name: ``ray_vlray_train_loss``, ..."""

    name = "Ray's metrics endpoint"

    def __init__(self, folder: Path) -> None:
        """Begin; the run's folder names its project and itself, which are the tags."""
        place = folder.absolute()
        self._tags = {"project": place.parent.name, "run": place.name}
        self._gauges: dict[str, Any] = {}
        self._values: dict[str, float] = {}
        self._shown, self._examples = time.monotonic(), 0

    def progress(self, step: int, loss: float, lr: float, examples: int) -> None:
        """Come to the end of a step; the arguments are those of `Watch.progress`."""
        self._examples += examples
        seconds = time.monotonic() - self._shown
        if seconds >= SECONDS_BETWEEN:
            speed = {"train_examples_per_s": self._examples / seconds}
            self._show({"train_step": step, "train_loss": loss, "train_lr": lr, **speed})

    def add(self, record: Record) -> None:
        """Take the figures of a step."""
        kind = record["kind"]
        self._show({f"{kind}_{name}": value for name, value in metrics_of(record).items()})

    def _show(self, values: dict[str, float]) -> None:
        """Set all gauges: the endpoint forgets what nobody repeats."""
        self._shown, self._examples = time.monotonic(), 0
        self._values |= values
        for name, value in self._values.items():
            self._gauge(f"vlray_{name}").set(value)

    def close(self) -> None:
        """Take no more."""

    def _gauge(self, name: str) -> Any:
        """Give a gauge; its name has letters, digits and underscores alone."""
        from ray.util.metrics import Gauge

        name = re.sub(r"\W", "_", name, flags=re.ASCII)
        if name not in self._gauges:
            gauge = Gauge(name, "A figure of a training", TAGS)
            self._gauges[name] = gauge.set_default_tags(self._tags)
        return self._gauges[name]


def in_ray() -> bool:
    """Tell whether this process is connected to Ray; a training alone does without it."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())
