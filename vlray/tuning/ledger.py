"""Files of a sweep: ``trials.jsonl`` with one trial per line, and ``sweep.json`` with settings."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, Self

from vlray.settings.options import flatten
from vlray.storage import files
from vlray.tuning.objective import Objective
from vlray.tuning.tuned import Setting

TRIALS = "trials.jsonl"
METRICS_KEY = "figures"
"""Key of the metrics in ``trials.jsonl``; unchanged, so that older sweeps can be resumed."""
SWEEP = "sweep.json"

State = Literal["finished", "stopped", "failed"]
"""State of a trial. ``stopped``: the scheduler stopped it, because other trials were better.
``failed``: it raised an error or its process was lost; it is repeated when the sweep is resumed."""


def trial_id(setting: Setting) -> str:
    """Return the name of a setting's trial: a hash, or ``defaults`` if the setting is empty."""
    if not setting:
        return "defaults"
    text = json.dumps(setting, sort_keys=True)
    # Ten hex digits are short enough for folder names, and distinct within one sweep.
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


@dataclass(frozen=True)
class Trial:
    """A trial that has ended."""

    setting: Setting
    state: State

    metrics: dict[str, float] = field(default_factory=dict)
    """Metrics by name."""

    error: str = ""
    """Error of a failed trial; empty if it did not fail."""

    seconds: float = 0
    """Duration of the trial."""

    evaluations: tuple[float, ...] = ()
    """Values of the objective at the evaluations of a training."""

    @property
    def id(self) -> str:
        """Name of the trial, which is the same in every run of the sweep."""
        return trial_id(self.setting)

    def value(self, name: str) -> float:
        """Return the value of a metric; NaN if the trial does not have it."""
        value = self.metrics.get(name)  # None: JSON has no NaN, so _plain() replaced it
        return math.nan if value is None else value


class Ledger:
    """Stores each trial when it ends, so that an interrupted sweep can be resumed."""

    def __init__(self, trials: dict[str, Trial], path: Path) -> None:
        self.trials = trials
        self._path = path

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the trials of a sweep, and remove a last line that a killed process cut short."""
        path = folder / TRIALS
        trials: dict[str, Trial] = {}
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            complete = text[: text.rfind("\n") + 1]
            if complete != text:
                os.truncate(path, len(complete.encode()))
            for line in complete.splitlines():
                values = json.loads(line)
                values["evaluations"] = tuple(values["evaluations"])
                # A repeated trial has several lines, of which the last one counts.
                trial = Trial(metrics=values.pop(METRICS_KEY), **values)
                trials[trial.id] = trial
        return cls(trials, path)

    def add(self, trial: Trial) -> None:
        """Add a trial, and write it to the disk before returning."""
        self.trials[trial.id] = trial
        with self._path.open("a", encoding="utf-8") as file:
            values = asdict(trial)
            values[METRICS_KEY] = values.pop("metrics")
            file.write(json.dumps(_plain(values)) + "\n")
            file.flush()
            # A trial may have taken hours; it must survive a crash of the machine.
            os.fsync(file.fileno())

    def done(self, setting: Setting) -> Trial | None:
        """Return the trial of a setting; None if it has not run or has failed."""
        trial = self.trials.get(trial_id(setting))
        return None if trial is None or trial.state == "failed" else trial

    def best(self, objective: Objective) -> Trial | None:
        """Return the best trial; None if no trial has a value for the objective."""
        ended = [trial for trial in self.trials.values() if trial.state != "failed"]
        ended.sort(key=lambda trial: objective.key(trial.value(objective.name)))
        return ended[0] if ended and not math.isnan(ended[0].value(objective.name)) else None


def _plain(values: object) -> object:
    """Convert values for JSON, with None for NaN and infinity, which JSON does not have."""
    if isinstance(values, dict):
        return {name: _plain(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_plain(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def claim(folder: Path, about: Mapping[str, object]) -> None:
    """Write the sweep's settings, or check that they match those of the sweep in the folder.

    A sweep without recorded trials is replaced, because nothing is lost.

    Args:
        folder: Folder of the sweep.
        about: Settings that identify the sweep.

    Raises:
        ValueError: The folder has a sweep with other settings; the message lists the differences.
    """
    path = folder / SWEEP
    # A JSON round trip turns tuples into lists, as in the stored settings.
    now = json.loads(json.dumps(about))
    if not (path.is_file() and (folder / TRIALS).is_file()):
        data = (json.dumps(now, indent=1) + "\n").encode()
        files.write_atomic(*files.resolve(path), data)
        return
    before = flatten(json.loads(path.read_text(encoding="utf-8")))
    after = flatten(now)
    lines = [
        f"  {'.'.join(key)}: {before.get(key, 'not given')} there, "
        f"{after.get(key, 'not given')} here"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]
    if lines:
        raise ValueError(
            f"{folder} has another sweep:\n" + "\n".join(lines) + "\n"
            "Pass its settings to resume it (--trials may be higher), or another OUT"
        )
