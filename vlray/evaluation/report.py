"""The figures of a test: as a table to read, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlray.evaluation.intervals import Interval, bootstrap_mean
from vlray.settings.text_table import align
from vlray.tasks.metrics import Metrics


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: Of the figure, or of the group.
        value: In percent, or as its script or loss gives it.
        interval: Likewise; None: none was drawn.
        count: Over how much it is the mean; 0: it is none.
        group: What the group is of (``answer_type``); empty: all examples.
        baseline: What one answer for all of them gives; None: not known.
    """

    name: str
    value: float
    interval: Interval | None = None
    count: int = 0
    group: str = ""
    baseline: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the figure in plain types; the value is None where it is not finite."""
        found: dict[str, Any] = {"value": self.value if math.isfinite(self.value) else None}
        if self.interval is not None:
            found |= {"low": self.interval.low, "high": self.interval.high}
        if self.baseline is not None:
            found |= {"baseline": self.baseline}
        return found | ({"n": self.count} if self.count else {})


def figures_of(
    metrics: Metrics, resamples: int, seed: int, baseline: Metrics | None = None
) -> list[Figure]:
    """Return every figure with its interval: overall first, then by group.

    Args:
        metrics: What was measured.
        resamples: Of the bootstrap; 0: no intervals.
        seed: Of the bootstrap.
        baseline: The same of one answer for all examples.
    """
    figures = [
        _figure(metrics, (name,), value, resamples, seed) for name, value in metrics.values.items()
    ]
    for kind, shares in metrics.by.items():
        for name in sorted(shares, key=_natural):
            figures.append(_figure(metrics, (kind, name), shares[name].percent, resamples, seed))
    if baseline is None:
        return figures
    return [replace(figure, baseline=_of(baseline, figure)) for figure in figures]


def _of(metrics: Metrics, figure: Figure) -> float | None:
    if not figure.group:
        return metrics.values.get(figure.name)
    share = metrics.by.get(figure.group, {}).get(figure.name)
    return share.percent if share else None


def _figure(
    metrics: Metrics, key: tuple[str, ...], value: float, resamples: int, seed: int
) -> Figure:
    samples = metrics.samples.get(key, ())
    interval = bootstrap_mean(samples, resamples, seed, "/".join(key))
    if interval is not None:
        interval = Interval(100 * interval.low, 100 * interval.high)
    return Figure(key[-1], value, interval, len(samples), key[0] if len(key) > 1 else "")


def _natural(name: str) -> tuple[int, str]:
    """Sort numbers (GQA's words and steps) by their value, before texts."""
    return (int(name), "") if name.isascii() and name.isdigit() else (2**31, name)


def as_json(figures: Sequence[Figure]) -> dict[str, Any]:
    """Return ``figures`` by name, and under ``by`` those of each kind of group."""
    by: dict[str, dict[str, Any]] = {}
    for figure in figures:
        if figure.group:
            by.setdefault(figure.group, {})[figure.name] = figure.as_dict()
    overall = {figure.name: figure.as_dict() for figure in figures if not figure.group}
    return {"figures": overall, "by": by}


def headline(figure: Figure) -> str:
    """Format a figure in one line, for lists of runs."""
    about = [f"{figure.interval.low:.2f} to {figure.interval.high:.2f}"] if figure.interval else []
    about += [f"{figure.count:,} examples"] if figure.count else []
    return f"{figure.name} {figure.value:.2f}" + (f" ({', '.join(about)})" if about else "")


def table(figures: Sequence[Figure], baseline: str = "") -> str:
    """Lay the figures out: value, 95 % interval, number, and the baseline under its name."""
    rows = [("", "value", "95 % interval", "n", baseline), *_rows(figures)]
    # What no figure has gets no column.
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    return "\n".join(align([*zip(*columns, strict=True)], right=True))


def _rows(figures: Sequence[Figure]) -> Iterator[tuple[str, str, str, str, str]]:
    group = ""
    for figure in figures:
        if figure.group != group:
            group = figure.group
            yield f"by {group.replace('_', ' ')}", "", "", "", ""
        yield (
            f"  {figure.name}" if figure.group else figure.name,
            number(figure),
            interval_text(figure),
            f"{figure.count:,}" if figure.count else "",
            "" if figure.baseline is None else number(figure, figure.baseline),
        )


def is_percent(figure: Figure) -> bool:
    """Return whether a figure is a share: neither GQA's chi-square nor a loss."""
    return figure.name != "distribution" and not figure.name.startswith("loss")


def number(figure: Figure, value: float | None = None) -> str:
    """Write a figure, or another value of its kind: percent with two digits, others with four."""
    return f"{figure.value if value is None else value:.{2 if is_percent(figure) else 4}f}"


def interval_text(figure: Figure) -> str:
    """Write an interval; empty where there is none."""
    if figure.interval is None:
        return ""
    return f"{figure.interval.low:.2f} to {figure.interval.high:.2f}"
