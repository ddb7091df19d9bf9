"""What a sweep has found so far: ``trials.jsonl``, a trial a line, and what the sweep is."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from vlray.settings.options import flatten
from vlray.storage import files
from vlray.tuning.objective import Objective
from vlray.tuning.tuned import Setting

TRIALS = "trials.jsonl"
SWEEP = "sweep.json"

State = Literal["finished", "stopped", "failed"]
"""``stopped``: by the scheduler, for the others were better. ``failed``: it is tried again."""


def trial_id(setting: Setting) -> str:
    """Name a trial by its setting, the same in every run; ``defaults``: nothing is set."""
    if not setting:
        return "defaults"
    text = json.dumps(setting, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


@dataclass(frozen=True)
class Trial:
    """A trial that has ended."""

    setting: Setting
    state: State
    figures: dict[str, float] = field(default_factory=dict)
    error: str = ""
    seconds: float = 0
    evaluations: tuple[float, ...] = ()
    """The objective at each evaluation of a training."""

    @property
    def id(self) -> str:
        """Give its name."""
        return trial_id(self.setting)

    def value(self, name: str) -> float:
        """Give a figure; not a number where it has none."""
        value = self.figures.get(name)
        return math.nan if value is None else value


class Ledger:
    """Keeps trials as they end; the last line of a killed process may be half written."""

    def __init__(self, trials: dict[str, Trial], path: Path) -> None:
        self.trials = trials
        self._path = path

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read what there is, and take away what is half written."""
        path = folder / TRIALS
        trials: dict[str, Trial] = {}
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1]
            if whole != text:
                os.truncate(path, len(whole.encode()))
            for line in whole.splitlines():
                values = json.loads(line)
                values["evaluations"] = tuple(values["evaluations"])
                trial = Trial(**values)
                trials[trial.id] = trial
        return cls(trials, path)

    def add(self, trial: Trial) -> None:
        """Keep a trial, on the disk when this returns."""
        self.trials[trial.id] = trial
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_plain(asdict(trial))) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def done(self, setting: Setting) -> Trial | None:
        """Give the trial of a setting where it need not be repeated."""
        trial = self.trials.get(trial_id(setting))
        return None if trial is None or trial.state == "failed" else trial

    def best(self, objective: Objective) -> Trial | None:
        """Give the best trial of all; None: none has the figure."""
        ended = [trial for trial in self.trials.values() if trial.state != "failed"]
        ended.sort(key=lambda trial: objective.key(trial.value(objective.name)))
        return ended[0] if ended and not math.isnan(ended[0].value(objective.name)) else None


def _plain(values: Any) -> Any:
    """JSON knows no NaN: what is no finite number becomes null."""
    if isinstance(values, dict):
        return {name: _plain(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_plain(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def claim(folder: Path, about: Mapping[str, Any]) -> None:
    """Keep what a sweep is, or refuse to go on with another one in its folder.

    One of which no trial has ended yet is forgotten: it may have been a mistake.

    Raises:
        ValueError: The folder has another sweep; says what differs.
    """
    path = folder / SWEEP
    now = json.loads(json.dumps(about))
    if not (path.is_file() and (folder / TRIALS).is_file()):
        fs, place = files.resolve(path)
        files.write_atomic(fs, place, (json.dumps(now, indent=1) + "\n").encode())
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
            "Give the same to go on with it (more --trials are fine), or another OUT"
        )
