"""The figures that a step's ``metrics.json`` has, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vlray.pipelines.steps import Step, normal
from vlray.storage import files

METRICS = "metrics.json"
GROUP = "answer_type"
"""The group whose figures are shown; a test's own page has those of all."""


def figures_of(step: Step) -> list[list[str]]:
    """Read the figures of a test.

    Returns:
        Of each: name, value, 95 % interval and number of examples; empty texts where they are not
        known. None where the step is no test, or wrote them into object storage.
    """
    if step.command != "test" or files.is_uri(step.output):
        return []
    try:
        metrics = json.loads((Path(normal(step.output)) / METRICS).read_text("utf-8"))
        rows = [_row(name, one) for name, one in metrics["figures"].items()]
        groups = metrics["by"].get(GROUP, {})
        kind = GROUP.replace("_", " ")
        return rows + [_row(f"{kind}: {name}", one) for name, one in groups.items()]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return []  # half removed, or of another vlray


def _row(name: str, figure: dict[str, Any]) -> list[str]:
    value = figure["value"]
    return [
        name,
        "not a number" if value is None else f"{value:.2f}",
        f"{figure['low']:.2f} to {figure['high']:.2f}" if "low" in figure else "",
        f"{figure['n']:,}" if "n" in figure else "",
    ]


def headline(step: Step) -> str:
    """Say the first figure in a line; empty where there is none."""
    for name, value, interval, count in figures_of(step):
        about = ", ".join(filter(None, (interval, count and f"{count} examples")))
        return f"{name} {value}" + (f" ({about})" if about else "")
    return ""
