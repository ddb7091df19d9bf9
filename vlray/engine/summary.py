"""Summary table of a finished training: options, duration and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np

from vlray.runs.metrics import Record, describe_best, metrics_of, of_kind
from vlray.storage import files

Fact = str | int | float
"""Value in a row of the summary."""


def write_summary(
    path: Path, title: str, about: Mapping[str, Fact], history: Sequence[Record], seconds: float
) -> None:
    """Write the summary as a Markdown table.

    Args:
        path: Path of the file.
        title: Heading of the table.
        about: Facts about the run by name; they become the first rows.
        history: Logged records, from which the other rows are computed.
        seconds: Duration of the run.
    """
    rows = {**about, **_measured(history), "time": str(timedelta(seconds=round(seconds)))}
    lines = [f"# {title}", "", "| | |", "|---|---|"]
    lines += [f"| {_cell(name)} | {_cell(_format(value))} |" for name, value in rows.items()]
    files.write_atomic(*files.resolve(path), ("\n".join(lines) + "\n").encode())


def _measured(history: Sequence[Record]) -> dict[str, Fact]:
    """Collect the best evaluation, the last losses and metrics, and the speed."""
    train, valid = of_kind("train", history), of_kind("valid", history)
    rows: dict[str, Fact] = {}
    if history:
        rows["steps"] = history[-1]["step"]
    # Each evaluation that was the best so far is marked, so the last mark is the best of all.
    best = next((record for record in reversed(valid) if record.get("best")), None)
    if best:
        rows["best evaluation"] = describe_best(best)
    for what, records in (("training", train), ("evaluation", valid)):
        if records:
            rows |= {
                f"{what} {name}, at the end": value
                for name, value in metrics_of(records[-1]).items()
                if name == "loss" or name.startswith("loss/") or what == "evaluation"
            }
    for name, label, form in (
        ("examples_per_s", "examples/s", ",.4g"),
        ("waited", "share of the time waiting for data", ".1%"),
    ):
        values = [record[name] for record in train if name in record]
        if values:
            rows[f"{label}, median"] = format(np.median(values), form)
    return rows


def _format(value: Fact) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cell(text: str) -> str:
    # Vertical bars and line breaks would end the cell.
    return text.replace("|", "\\|").replace("\n", " ")
