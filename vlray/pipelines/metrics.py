"""Metrics of a test step, read from its ``metrics.json`` and formatted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Required, TypedDict

from vlray.pipelines.paths import normal
from vlray.pipelines.steps import Step
from vlray.storage import files

METRICS = "metrics.json"
GROUP = "answer_type"
"""The kind of group whose metrics are listed; the test's own page lists all kinds."""


def metric_rows(step: Step) -> list[list[str]]:
    """Read the metrics of a test step.

    Returns:
        One row per metric: name, value, 95 % interval and number of examples; unknown values are
        empty. No rows if the step is not a test, or its output is in object storage.
    """
    if step.command != "test" or files.is_uri(step.output):
        return []
    try:
        metrics = json.loads((Path(normal(step.output)) / METRICS).read_text("utf-8"))
        rows = [_row(name, metric) for name, metric in metrics["figures"].items()]
        groups = metrics["by"].get(GROUP, {})
        kind = GROUP.replace("_", " ")
        return rows + [_row(f"{kind}: {name}", metric) for name, metric in groups.items()]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return []  # missing, partly deleted, or written by another version of vlray


class _Metric(TypedDict, total=False):
    value: Required[float | None]
    low: float
    high: float
    n: int


def _row(name: str, metric: _Metric) -> list[str]:
    value = metric["value"]
    return [
        name,
        "not a number" if value is None else f"{value:.2f}",
        f"{metric['low']:.2f} to {metric['high']:.2f}" if "low" in metric else "",
        f"{metric['n']:,}" if "n" in metric else "",
    ]


def headline(step: Step) -> str:
    """Format the first metric in one line; empty if there is none."""
    for name, value, interval, count in metric_rows(step):
        about = ", ".join(filter(None, (interval, count and f"{count} examples")))
        return f"{name} {value}" + (f" ({about})" if about else "")
    return ""
