"""Ray Tune's side of a trial: run it, record its results, and stop it early."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ray import cloudpickle, tune
from ray.tune.schedulers import ASHAScheduler

from vlray.cluster.worker_logs import log_to_stderr
from vlray.runs.progress import Bar
from vlray.settings.environment import EnvironmentSection
from vlray.tuning.ledger import Ledger, State, Trial, trial_id
from vlray.tuning.objective import Mode, Objective
from vlray.tuning.tuned import Setting
from vlray.tuning.work import TrialFunction

MOST_EVALUATIONS = 10_000
"""Maximum number of evaluations in a training, which ASHA requires; larger than any real one."""

log = logging.getLogger("vlray.tuning")


class RayTrial(Protocol):
    """The attributes of Ray Tune's own trials that this module reads."""

    trial_id: str
    config: dict[str, Setting]
    pickled_error_file: str | None


def run_trial(
    config: Mapping[str, Setting],
    function: TrialFunction,
    objective: Objective,
    env: EnvironmentSection,
) -> None:
    """Run one trial; Ray Tune calls this function in a separate process.

    Raises:
        ValueError: The trial's metrics do not include the objective.
    """
    setting = config["setting"]
    log_to_stderr(env)
    logger = logging.getLogger("vlray")
    logger.propagate = False

    def report(metrics: Mapping[str, float], /, **ended: bool) -> None:
        if objective.name not in metrics:
            raise ValueError(
                f"the trial has no metric {objective.name!r}; pass one of {', '.join(metrics)} as "
                "--objective, with another OUT"
            )
        values = {"objective": float(metrics[objective.name]), "metrics": dict(metrics)}
        tune.report({**values, **ended})

    # With reuse_actors, a process runs several trials, so the prefix must be removed afterwards.
    prefix = _Prefix(f"trial {trial_id(setting)}: ")
    for handler in logger.handlers:
        handler.addFilter(prefix)
    try:
        report(function(setting, report), ended=True)
    finally:
        for handler in logger.handlers:
            handler.removeFilter(prefix)


class _Prefix(logging.Filter):
    """Logging filter that prefixes each message with the trial's name."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def filter(self, record: logging.LogRecord) -> bool:
        # getMessage() has already inserted the arguments.
        record.msg, record.args = self._prefix + record.getMessage(), None
        return True


class TrialCallback(tune.Callback):  # type: ignore[misc] # Ray's has no types
    """Records each trial in the ledger when it ends, and shows the progress of the search."""

    def __init__(self, ledger: Ledger, objective: Objective, bar: Bar, total: int) -> None:
        self._ledger, self._objective, self._bar, self._total = ledger, objective, bar, total
        self._reported: dict[str, list[dict[str, Any]]] = {}
        self._began: dict[str, float] = {}
        self._ended = 0
        # A resumed sweep continues from the best trial of earlier runs.
        best = ledger.best(objective)
        self._best = best.value(objective.name) if best else math.nan

    def on_trial_start(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: object
    ) -> None:
        """Record the start time of a trial."""
        # A trial that Ray starts again keeps its first start time.
        self._began.setdefault(trial.trial_id, time.monotonic())

    def on_trial_result(
        self,
        iteration: int,
        trials: list[RayTrial],
        trial: RayTrial,
        result: dict[str, Any],
        **info: object,
    ) -> None:
        """Store the reported metrics of a trial."""
        self._reported.setdefault(trial.trial_id, []).append(
            {name: result.get(name) for name in ("objective", "metrics", "ended")}
        )

    def on_trial_complete(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: object
    ) -> None:
        """Record a trial that finished or was stopped by the scheduler."""
        reported = self._reported.pop(trial.trial_id, [])
        # The last report of a finished trial is its result, not one more evaluation.
        if reported and reported[-1]["ended"]:
            self._record(trial, "finished", reported[-1]["metrics"], reported[:-1])
        elif reported:
            # The scheduler stopped the trial: the best evaluation is the trial's result.
            best = min(reported, key=lambda one: self._objective.key(one["objective"]))
            self._record(trial, "stopped", best["metrics"], reported)

    def on_trial_error(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **info: object
    ) -> None:
        """Record a failed trial with its error; the search continues."""
        text = _error_of(trial)
        self._reported.pop(trial.trial_id, None)
        log.warning("the trial with %s failed: %s", _format(trial.config["setting"]), text)
        self._record(trial, "failed", {}, [], text)

    def _record(
        self,
        trial: RayTrial,
        state: State,
        metrics: dict[str, float],
        evaluations: list[dict[str, Any]],
        error: str = "",
    ) -> None:
        seconds = time.monotonic() - self._began.pop(trial.trial_id, time.monotonic())
        values = tuple(float(one["objective"]) for one in evaluations)
        setting = trial.config["setting"]
        self._ledger.add(Trial(setting, state, metrics, error, round(seconds, 3), values))
        self._ended += 1
        name = self._objective.name
        if self._objective.beats(value := metrics.get(name, math.nan), self._best):
            self._best = value
        is_good = not math.isnan(self._best)
        words = f"best {name} {self._best:.4g}" if is_good else f"no {name} so far"
        self._bar.to(self._ended, words)
        if self._bar.is_line_due(time.monotonic(), is_last=self._ended == self._total):
            self._bar.say(log, f"{self._ended:,}/{self._total:,} trials, {words}")


class Asha(ASHAScheduler):  # type: ignore[misc] # Ray's has no types
    """ASHA scheduler that never stops the trial with the default settings."""

    def __init__(self, mode: Mode) -> None:
        # From the first evaluation on, the best third of the trials continues at each rung.
        super().__init__(
            metric="objective",
            mode=mode,
            max_t=MOST_EVALUATIONS,
            grace_period=1,
            reduction_factor=3,
        )

    def on_trial_result(
        self, tune_controller: object, trial: RayTrial, result: dict[str, Any]
    ) -> str:
        """Return Ray Tune's decision on a trial after an evaluation: continue or stop."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        # An empty setting is the default one: its result must be complete for the comparison.
        return decision if trial.config["setting"] else self.CONTINUE


def _error_of(trial: RayTrial) -> str:
    """Return type and message of a trial's error, without Ray's wrappers."""
    # Ray Tune pickles the error to a local file; the storage does not have that file yet.
    path = Path(trial.pickled_error_file or "")
    if not path.is_file():
        return "the trial's process was lost; Ray gave no reason"
    error = cloudpickle.loads(path.read_bytes())
    while isinstance(inner := getattr(error, "cause", None), BaseException):
        error = inner
    return f"{type(error).__name__}: {error}"


def _format(setting: Setting) -> str:
    return ", ".join(f"{name}={value}" for name, value in setting.items()) or "the default settings"
