"""The objective of a search: a metric, and whether to maximize or minimize it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from vlray.settings.options import nearest

Mode = Literal["max", "min"]

DOWNSTREAM = "downstream"
RATE = "images_per_s"
LABELS = ("label_accuracy", "attribute_accuracy")


@dataclass(frozen=True)
class Objective:
    """The metric to optimize."""

    name: str
    mode: Mode

    def beats(self, value: float, other: float) -> bool:
        """Return whether ``value`` is better than ``other``; NaN is worse than any number."""
        if math.isnan(value) or math.isnan(other):
            return math.isnan(other) and not math.isnan(value)
        return value > other if self.mode == "max" else value < other

    def key(self, value: float) -> float:
        """Return a sort key that puts the best value first, and NaN last."""
        if math.isnan(value):
            return math.inf
        return -value if self.mode == "max" else value


def make_objective(name: str, mode: Literal["auto", "max", "min"]) -> Objective:
    """Create an objective; ``auto`` minimizes losses and ``boxes``, and maximizes other metrics."""
    if mode != "auto":
        return Objective(name, mode)
    metric = name.removeprefix(f"{DOWNSTREAM}/")
    is_lower_better = metric == "boxes" or metric.partition("/")[0] == "loss"
    return Objective(name, "min" if is_lower_better else "max")


def check_name(name: str, metrics: Iterable[str], more: str = "") -> None:
    """Check that an objective is one of the metrics.

    Args:
        name: The objective.
        metrics: The valid names.
        more: Text that follows the list of names in the error message.

    Raises:
        ValueError: The objective is not one of the metrics.
    """
    names = list(metrics)
    if name in names:
        return
    close = nearest(name, names)
    hint = f" did you mean {close}?" if close else ""
    raise ValueError(f"unknown objective {name!r};{hint} valid ones are {', '.join(names)}{more}")
