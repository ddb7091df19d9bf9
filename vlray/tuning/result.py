"""Results of a search: a text table, ``trials.parquet``, and the best setting as YAML."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vlray.runs.folder import to_yaml
from vlray.settings.options import nest
from vlray.settings.text_table import align
from vlray.storage import files
from vlray.tuning.ledger import Ledger, Trial
from vlray.tuning.objective import Objective
from vlray.tuning.tuned import Tuned

PARQUET = "trials.parquet"
BEST = "best.yaml"
SHOWN = 10
"""Maximum number of trials in the printed table; the Parquet file has all trials."""


@dataclass(frozen=True, eq=False)
class Result:
    """All trials of a sweep, best first."""

    tuned: Tuned
    names: tuple[str, ...]
    """Names of the searched options."""

    objective: Objective
    trials: tuple[Trial, ...]

    @classmethod
    def of(cls, tuned: Tuned, names: Sequence[str], objective: Objective, ledger: Ledger) -> Result:
        """Create the result from a ledger; trials are sorted best first, failed trials last."""

        def key(trial: Trial) -> tuple[bool, float]:
            return trial.state == "failed", objective.key(trial.value(objective.name))

        trials = tuple(sorted(ledger.trials.values(), key=key))
        return cls(tuned, tuple(names), objective, trials)

    @property
    def best(self) -> Trial | None:
        """Best trial, not counting the default settings; None if no trial has the objective."""
        trials = [trial for trial in self.trials if trial.setting and self._has_value(trial)]
        return trials[0] if trials else None

    @property
    def defaults(self) -> Trial | None:
        """Trial with the default settings; None if it failed or does not have the objective."""
        trials = [trial for trial in self.trials if not trial.setting and self._has_value(trial)]
        return trials[0] if trials else None

    @property
    def is_better(self) -> bool:
        """Whether the best trial beats the trial with the default settings."""
        best, defaults, name = self.best, self.defaults, self.objective.name
        if best is None or defaults is None:
            return best is not None
        return self.objective.beats(best.metrics[name], defaults.metrics[name])

    @property
    def failed(self) -> int:
        """Number of failed trials."""
        return sum(trial.state == "failed" for trial in self.trials)

    def _has_value(self, trial: Trial) -> bool:
        return trial.state != "failed" and not math.isnan(trial.value(self.objective.name))


def write(result: Result, folder: Path) -> None:
    """Write ``trials.parquet``, and ``best.yaml`` if there is a best trial."""
    buffer = io.BytesIO()
    pq.write_table(_columns(result), buffer)
    _write(folder / PARQUET, buffer.getvalue())
    if best := result.best:
        name, values = result.objective.name, best.metrics
        head = f"# {name} {values[name]:.6g}"
        if result.defaults:
            head += f"; default settings {result.defaults.metrics[name]:.6g}"
        searched = nest({tuple(name.split(".")): value for name, value in best.setting.items()})
        lines = [f"{head} (trial {best.id})", *_fixed(result.tuned)]
        _write(folder / BEST, "\n".join([*lines, to_yaml(searched)]).encode())


def _fixed(tuned: Tuned) -> list[str]:
    """Return comment lines with the options that were the same in all trials."""
    if not (options := tuned.fixed()):
        return []
    lines = to_yaml(options).splitlines()
    return [f"# all trials of vlray {tuned.name} had these options:", *(f"#   {x}" for x in lines)]


def _write(path: Path, data: bytes) -> None:
    files.write_atomic(*files.resolve(path), data)


def _columns(result: Result) -> pa.Table:
    """Create the table for ``trials.parquet``; for the default settings, all options are null."""
    columns: dict[str, pa.Array] = {
        "trial": pa.array([trial.id for trial in result.trials]),
        "state": pa.array([trial.state for trial in result.trials]),
    }
    for name in result.names:
        columns[name] = _column([trial.setting.get(name) for trial in result.trials])
    for name in metric_names(result):
        values = [trial.metrics.get(name) for trial in result.trials]
        columns[name] = pa.array(values, pa.float64())
    columns["evaluations"] = pa.array(
        [trial.evaluations for trial in result.trials], pa.list_(pa.float64())
    )
    columns["seconds"] = pa.array([trial.seconds for trial in result.trials], pa.float64())
    columns["error"] = pa.array([trial.error for trial in result.trials])
    return pa.table(columns)


def _column(values: Sequence[object]) -> pa.Array:
    """Convert values to a column; values of mixed types become JSON text."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else json.dumps(value) for value in values])


def metric_names(result: Result) -> list[str]:
    """Return the names of all metrics, with the objective first."""
    names = dict.fromkeys(name for trial in result.trials for name in trial.metrics)
    first = result.objective.name
    return [first, *(name for name in names if name != first)] if first in names else [*names]


def table(result: Result) -> str:
    """Format the best trials and the trial with the default settings as a text table."""
    short = _shortened(result.names)
    # More columns would not fit on a terminal; trials.parquet has all of them.
    metrics = metric_names(result)[:6]
    head = ("", *short, *metrics)
    rows: list[tuple[str, ...]] = []
    searched = [trial for trial in result.trials if trial.setting and trial.state != "failed"]
    for number, trial in enumerate(searched[:SHOWN], start=1):
        mark = " (stopped)" if trial.state == "stopped" else ""
        rows.append((f"{number}{mark}", *_cells(result.names, trial, metrics)))
    if result.defaults:
        # The setting of this trial is empty; show the default values instead.
        defaults = replace(result.defaults, setting=result.tuned.defaults(result.names))
        rows.append(("defaults", *_cells(result.names, defaults, metrics)))
    lines = align([head, *rows], right=True)
    if len(searched) > SHOWN:
        lines.insert(1 + SHOWN, f"... {len(searched) - SHOWN:,} more")
    return "\n".join(lines)


def _cells(names: Sequence[str], trial: Trial, metrics: Sequence[str]) -> list[str]:
    values = [_format(trial.setting[name]) if name in trial.setting else "-" for name in names]
    return values + [_format(trial.metrics.get(name)) for name in metrics]


def _format(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)


def _shortened(names: Sequence[str]) -> list[str]:
    """Shorten each option's name to its last part, if no other option shares that part."""
    ends = [name.rpartition(".")[2] for name in names]
    return [end if ends.count(end) == 1 else name for end, name in zip(ends, names, strict=True)]


def headline(result: Result) -> str:
    """Describe the best trial in one line, and compare it with the default settings."""
    best, name = result.best, result.objective.name
    if best is None:
        return f"no trial has {name}"
    at = ", ".join(
        f"{short}={_format(best.setting[full])}"
        for short, full in zip(_shortened(result.names), result.names, strict=True)
    )
    line = f"best {name} {best.metrics[name]:.4g} at {at}"
    if result.defaults:
        line += f"; {result.defaults.metrics[name]:.4g} with the default settings"
    return line
