"""The figures of a run: ``metrics.jsonl``, a record a line."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"

Record = dict[str, Any]
"""Figures of a step: ``step``, ``time`` (seconds since 1970), ``kind`` (``train`` or ``valid``),
``best`` where an evaluation was the best so far, and the figures by name."""

_ABOUT = ("step", "time", "kind", "best")
_IS_BEST = '"best": true'


def figures(record: Record) -> dict[str, float]:
    """Give a record's figures, without what else it says."""
    return {name: value for name, value in record.items() if name not in _ABOUT}


def of_kind(kind: str, records: Sequence[Record]) -> list[Record]:
    """Pick the records of training (``train``) or evaluation (``valid``)."""
    return [record for record in records if record["kind"] == kind]


def to_line(record: Record) -> str:
    """Write a record as a line of JSON, which knows no NaN: what is not finite becomes null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(finite) + "\n"


def last_best(path: Path) -> Record | None:
    """Read the best evaluation so far from a run's file; none where there was none."""
    best = ""
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if _IS_BEST in line and line.endswith("\n"):  # the last may be half written
                    best = line
    return json.loads(best) if best else None


def say_best(record: Record) -> str:
    """Say an evaluation by its first figure, which the best is told by."""
    name, value = next(iter(figures(record).items()))
    said = "not a number" if value is None else f"{value:.4g}"
    return f"{name} {said} at step {record['step']:,}"
