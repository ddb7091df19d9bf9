"""The metrics of a run: ``metrics.jsonl``, one record per line."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"

Record = dict[str, Any]
"""Metrics of one step, keyed by name, plus ``step``, ``time`` (Unix time in seconds), ``kind``
(``train`` or ``valid``) and, if the evaluation was the best so far, ``best``."""

_NOT_METRICS = ("step", "time", "kind", "best")
_IS_BEST = '"best": true'


def metrics_of(record: Record) -> dict[str, float]:
    """Return a record's metrics, without ``step``, ``time``, ``kind`` and ``best``."""
    return {name: value for name, value in record.items() if name not in _NOT_METRICS}


def of_kind(kind: str, records: Sequence[Record]) -> list[Record]:
    """Return the records of one kind: training (``train``) or evaluation (``valid``)."""
    return [record for record in records if record["kind"] == kind]


def to_line(record: Record) -> str:
    """Return a record as a line of JSON. Non-finite values become null, because JSON has no NaN."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(finite) + "\n"


def last_best(path: Path) -> Record | None:
    """Return the best evaluation so far from a metrics file; None if there is none."""
    best = ""
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            # Parse only the last match: parsing all lines of a long run would be slow.
            for line in lines:
                if _IS_BEST in line and line.endswith("\n"):  # the last line may be incomplete
                    best = line
    return json.loads(best) if best else None


def describe_best(record: Record) -> str:
    """Describe an evaluation by its first metric, which determines the best evaluation."""
    name, value = next(iter(metrics_of(record).items()))
    text = "not a number" if value is None else f"{value:.4g}"
    return f"{name} {text} at step {record['step']:,}"
