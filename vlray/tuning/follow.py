"""What goes on between a trial and the search: it reports, is followed, and may be ended early."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.tune.schedulers import ASHAScheduler

from vlray.cluster.worker_logs import log_to_stderr
from vlray.runs.progress import Bar
from vlray.settings.environment import EnvironmentSection
from vlray.tuning.ledger import Ledger, State, Trial, trial_id
from vlray.tuning.objective import Mode, Objective
from vlray.tuning.work import Work

MOST_EVALUATIONS = 10_000
"""Of a training; ASHA wants to know a number."""

log = logging.getLogger("vlray.tuning")


def run_trial(
    config: dict[str, Any], work: Work, objective: Objective, env: EnvironmentSection
) -> None:
    """Be a trial: Ray Tune calls this in a process of its own.

    Raises:
        ValueError: The objective is not among the figures.
    """
    setting = config["setting"]
    log_to_stderr(env)
    logger = logging.getLogger("vlray")
    logger.propagate = False

    def report(figures: Mapping[str, float], **ended: bool) -> None:
        if objective.name not in figures:
            raise ValueError(
                f"there is no figure {objective.name!r}; give one of {', '.join(figures)} as "
                "--objective, with another OUT"
            )
        values = {"objective": float(figures[objective.name]), "figures": dict(figures)}
        tune.report({**values, **ended})

    named = _Named(f"trial {trial_id(setting)}: ")
    for handler in logger.handlers:
        handler.addFilter(named)
    try:
        report(work(setting, report), ended=True)
    finally:
        for handler in logger.handlers:
            handler.removeFilter(named)


class _Named(logging.Filter):
    """Says in each message which trial it is of."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._name + record.getMessage(), None
        return True


class Follow(tune.Callback):  # type: ignore[misc] # Ray's has no types
    """Keeps each trial as it ends, and says how far the search is."""

    def __init__(self, ledger: Ledger, objective: Objective, bar: Bar, total: int) -> None:
        self._ledger, self._objective, self._bar, self._total = ledger, objective, bar, total
        self._reported: dict[str, list[dict[str, Any]]] = {}
        self._began: dict[str, float] = {}
        self._ended = 0
        best = ledger.best(objective)
        self._best = best.value(objective.name) if best else math.nan

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Look at the clock."""
        self._began.setdefault(trial.trial_id, time.monotonic())

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Keep what a trial reports."""
        self._reported.setdefault(trial.trial_id, []).append(
            {name: result.get(name) for name in ("objective", "figures", "ended")}
        )

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Keep a trial that came to its end, or that the scheduler ended."""
        reported = self._reported.pop(trial.trial_id, [])
        if reported and reported[-1]["ended"]:
            self._keep(trial, "finished", reported[-1]["figures"], reported[:-1])
        elif reported:
            best = min(reported, key=lambda one: self._objective.key(one["objective"]))
            self._keep(trial, "stopped", best["figures"], reported)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Keep that a trial failed, and why; the others go on."""
        text = _error_of(trial)
        self._reported.pop(trial.trial_id, None)
        log.warning("a trial failed, %s: %s", _said(trial.config["setting"]), text)
        self._keep(trial, "failed", {}, [], text)

    def _keep(
        self,
        trial: Any,
        state: State,
        figures: dict[str, float],
        evaluations: list[dict[str, Any]],
        error: str = "",
    ) -> None:
        seconds = time.monotonic() - self._began.pop(trial.trial_id, time.monotonic())
        values = tuple(float(one["objective"]) for one in evaluations)
        setting = trial.config["setting"]
        self._ledger.add(Trial(setting, state, figures, error, round(seconds, 3), values))
        self._ended += 1
        name = self._objective.name
        if self._objective.beats(value := figures.get(name, math.nan), self._best):
            self._best = value
        is_good = not math.isnan(self._best)
        words = f"best {name} {self._best:.4g}" if is_good else "none with a figure so far"
        self._bar.to(self._ended, words)
        if self._bar.is_line_due(time.monotonic(), is_last=self._ended == self._total):
            self._bar.say(log, f"{self._ended:,}/{self._total:,} trials, {words}")


class Asha(ASHAScheduler):  # type: ignore[misc] # Ray's has no types
    """Ends trainings that are worse than others were; the one without a search runs to its end."""

    def __init__(self, mode: Mode) -> None:
        super().__init__(
            metric="objective",
            mode=mode,
            max_t=MOST_EVALUATIONS,
            grace_period=1,
            reduction_factor=3,
        )

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide about a trial after an evaluation."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return decision if trial.config["setting"] else self.CONTINUE


def _error_of(trial: Any) -> str:
    """Say what a trial raised, without Ray's wrappers; its files are not in the storage yet."""
    path = Path(trial.pickled_error_file or "")
    if not path.is_file():
        return "it was lost, for a reason that Ray does not tell"
    error = cloudpickle.loads(path.read_bytes())
    while isinstance(inner := getattr(error, "cause", None), BaseException):
        error = inner
    return f"{type(error).__name__}: {error}"


def _said(setting: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in setting.items()) or "the defaults"
