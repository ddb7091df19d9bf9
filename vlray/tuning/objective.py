"""What a search is for: a figure by name, and whether more of it is better."""

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
    """The figure to be best."""

    name: str
    mode: Mode

    def beats(self, value: float, other: float) -> bool:
        """Tell whether a value is better; one that is not a number is better than nothing."""
        if math.isnan(value) or math.isnan(other):
            return math.isnan(other) and not math.isnan(value)
        return value > other if self.mode == "max" else value < other

    def key(self, value: float) -> float:
        """Give what sorts the best first, and last what is not a number."""
        if math.isnan(value):
            return math.inf
        return -value if self.mode == "max" else value


def make_objective(name: str, mode: Literal["auto", "max", "min"]) -> Objective:
    """Settle what is the best."""
    if mode != "auto":
        return Objective(name, mode)
    figure = name.removeprefix(f"{DOWNSTREAM}/")
    is_small_better = figure == "boxes" or figure.partition("/")[0] == "loss"
    return Objective(name, "min" if is_small_better else "max")


def check_name(name: str, known: Iterable[str], more: str = "") -> None:
    """Refuse a figure that is not among those that there are.

    Args:
        name: The objective.
        known: The names.
        more: Said behind them.

    Raises:
        ValueError: It is none of them.
    """
    names = list(known)
    if name in names:
        return
    close = nearest(name, names)
    meant = f"; did you mean {close}?" if close else ""
    raise ValueError(f"there is no objective {name!r}{meant} There are {', '.join(names)}{more}")
