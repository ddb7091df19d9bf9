"""Metrics of a test, as a table and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vlray.config.test import TestConfig
from vlray.evaluation.intervals import Interval, bootstrap_mean
from vlray.settings.json_value import JsonObject
from vlray.settings.text_table import align
from vlray.settings.wording import counted
from vlray.tasks.metrics import Metrics


def check_defined(undefined: Sequence[str], config: TestConfig) -> None:
    """Raise an error if a model computed NaN, which is not a prediction that can be scored.

    Args:
        undefined: Ids of the examples for which the model computed NaN.
        config: Options of the test.

    Raises:
        ValueError: ``undefined`` is not empty.
    """
    if undefined:
        advice = "test another checkpoint"
        if config.precision == "fp16":
            advice = "pass --precision fp32, whose range is larger, or test another checkpoint"
        raise ValueError(
            f"{config.checkpoint} computes NaN for {counted(len(undefined), 'example')}, such as "
            f"{undefined[0]}: its weights are not finite, or values overflow; {advice}"
        )


@dataclass(frozen=True)
class MetricRow:
    """One metric, over all examples or over a group of them.

    Attributes:
        name: Name of the metric; for a group, the name of the group.
        value: A percentage; for losses and GQA's distribution score, the plain value.
        interval: 95 % confidence interval, in the unit of ``value``; None: not computed.
        count: Number of samples averaged in ``value``; 0: the value is not a mean.
        group: Attribute that the examples are grouped by (``answer_type``); empty: all examples.
        baseline: Value if the same answer is predicted for every example; None: unknown.
        left_out: What the examples lack because of faulty annotation files; empty: nothing.
    """

    name: str
    value: float
    interval: Interval | None = None
    count: int = 0
    group: str = ""
    baseline: float | None = None
    left_out: str = ""

    def as_dict(self) -> JsonObject:
        """Return the metric in plain types; a non-finite value becomes None."""
        values: JsonObject = {"value": self.value if math.isfinite(self.value) else None}
        if self.interval is not None:
            values |= {"low": self.interval.low, "high": self.interval.high}
        if self.baseline is not None:
            values |= {"baseline": self.baseline}
        if self.left_out:
            values |= {"left_out": self.left_out}
        return values | ({"n": self.count} if self.count else {})


def metric_rows(
    metrics: Metrics, resamples: int, seed: int, baseline: Metrics | None = None
) -> list[MetricRow]:
    """Return every metric with its interval: overall first, then by group.

    Args:
        metrics: The measured values.
        resamples: Number of bootstrap resamples; 0: no intervals.
        seed: Random seed of the bootstrap.
        baseline: The same metrics if one answer is predicted for all examples.
    """
    rows = [
        _metric_row(metrics, (name,), value, resamples, seed)
        for name, value in metrics.values.items()
    ]
    for kind, shares in metrics.by.items():
        for name in sorted(shares, key=_natural):
            rows.append(_metric_row(metrics, (kind, name), shares[name].percent, resamples, seed))
    if baseline is None:
        return rows
    return [replace(row, baseline=_value_of(baseline, row)) for row in rows]


def _value_of(metrics: Metrics, row: MetricRow) -> float | None:
    if not row.group:
        return metrics.values.get(row.name)
    share = metrics.by.get(row.group, {}).get(row.name)
    return share.percent if share else None


def _metric_row(
    metrics: Metrics, key: tuple[str, ...], value: float, resamples: int, seed: int
) -> MetricRow:
    samples = metrics.samples.get(key, ())
    # Metrics without samples (losses, chi-square) have no interval.
    interval = bootstrap_mean(samples, resamples, seed, "/".join(key))
    if interval is not None:
        # Samples are in [0, 1], values are in percent.
        interval = Interval(100 * interval.low, 100 * interval.high)
    return MetricRow(key[-1], value, interval, len(samples), key[0] if len(key) > 1 else "")


def _natural(name: str) -> tuple[int, str]:
    """Return a sort key: numbers (GQA's counts of words and steps) by value, then other names."""
    # 2**31 sorts names behind all numbers.
    return (int(name), "") if name.isascii() and name.isdigit() else (2**31, name)


def as_json(rows: Sequence[MetricRow]) -> JsonObject:
    """Return the overall metrics under ``figures``, and the metrics of groups under ``by``."""
    by: dict[str, JsonObject] = {}
    for row in rows:
        if row.group:
            by.setdefault(row.group, {})[row.name] = row.as_dict()
    overall = {row.name: row.as_dict() for row in rows if not row.group}
    # ``figures`` is part of the file's format, which other programs read.
    return {"figures": overall, "by": by}


def headline(row: MetricRow) -> str:
    """Format a metric as one line, for the list of runs."""
    about = [f"{row.interval.low:.2f} to {row.interval.high:.2f}"] if row.interval else []
    about += [f"{row.count:,} examples"] if row.count else []
    about += [f"left out: {row.left_out}"] if row.left_out else []
    return f"{row.name} {row.value:.2f}" + (f" ({', '.join(about)})" if about else "")


def table(rows: Sequence[MetricRow], baseline: str = "") -> str:
    """Format metrics as a table.

    The columns are the value, its 95 % interval, n, the baseline with the given heading, and what
    is left out.
    """
    lines = [("", "value", "95 % interval", "n", baseline, "left out"), *_lines(rows)]
    # Leave out columns in which no metric has a value.
    columns = [column for column in zip(*lines, strict=True) if any(column[1:])]
    return "\n".join(align([*zip(*columns, strict=True)], right=True))


def _lines(rows: Sequence[MetricRow]) -> Iterator[tuple[str, str, str, str, str, str]]:
    group = ""
    for row in rows:
        if row.group != group:
            group = row.group
            yield f"by {group.replace('_', ' ')}", "", "", "", "", ""
        yield (
            f"  {row.name}" if row.group else row.name,
            number(row),
            interval_text(row),
            f"{row.count:,}" if row.count else "",
            "" if row.baseline is None else number(row, row.baseline),
            row.left_out,
        )


def is_percent(row: MetricRow) -> bool:
    """Return whether a metric is a percentage, not GQA's chi-square or a loss."""
    return row.name != "distribution" and not row.name.startswith("loss")


def number(row: MetricRow, value: float | None = None) -> str:
    """Format a metric, or another value in its unit: percentages with 2 decimals, others with 4."""
    return f"{row.value if value is None else value:.{2 if is_percent(row) else 4}f}"


def interval_text(row: MetricRow) -> str:
    """Format the interval of a metric; empty if there is none."""
    if row.interval is None:
        return ""
    return f"{row.interval.low:.2f} to {row.interval.high:.2f}"
