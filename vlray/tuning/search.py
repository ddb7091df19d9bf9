"""Trials through Ray Tune: as many at the same time as fit, each kept as it ends."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlray.cluster.connection import default_variables
from vlray.cluster.console import quiet_loggers
from vlray.cluster.worker_logs import forwarded
from vlray.runs.progress import Bar, Style
from vlray.settings.environment import EnvironmentSection
from vlray.tuning.ledger import Ledger
from vlray.tuning.objective import Objective
from vlray.tuning.plan import Check
from vlray.tuning.space import Space
from vlray.tuning.tuned import Setting
from vlray.tuning.work import Resources, Work

SECONDS_BETWEEN_LINES = 10.0


_AT_START = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Files of each trial that nobody reads: trials.jsonl has what they have.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # vlray handles Ctrl-C.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
"""Variables of Ray Tune that have no argument in its API."""


@dataclass(frozen=True, eq=False)
class Search:
    """How settings are tried."""

    work: Work
    objective: Objective
    resources: Resources
    folder: Path
    """For what Ray Tune writes."""

    asha: bool
    progress: Style
    env: EnvironmentSection

    def try_all(self, settings: Sequence[Setting], ledger: Ledger) -> None:
        """Try these settings."""
        if settings:
            space = {"setting": {"grid_search": list(settings)}}
            self._run(space, len(settings), ledger, None)

    def try_suggested(
        self, space: Space, trials: int, seed: int, why_not: Check, ledger: Ledger
    ) -> None:
        """Try so many settings that Optuna suggests, by what is in the ledger already."""
        if trials > 0:
            from vlray.tuning.suggest import Suggest

            known = [trial for trial in ledger.trials.values() if ledger.done(trial.setting)]
            self._run({}, trials, ledger, Suggest(space, self.objective, seed, why_not, known))

    def _run(self, space: dict[str, Any], trials: int, ledger: Ledger, suggest: Any) -> None:
        with default_variables(_AT_START):
            import ray.tune  # sets the level of its logger, so it comes first

            with quiet_loggers({"ray.tune": logging.CRITICAL}):
                self._fit(ray.tune, space, trials, ledger, suggest)

    def _fit(
        self, tune: Any, space: dict[str, Any], trials: int, ledger: Ledger, suggest: Any
    ) -> None:
        from vlray.tuning.follow import Asha, Follow, run_trial

        given = tune.with_parameters(
            run_trial, work=self.work, objective=self.objective, env=self.env
        )
        with Bar(trials, " trials", SECONDS_BETWEEN_LINES, self.progress) as bar, forwarded():
            tune.Tuner(
                tune.with_resources(
                    given, {"cpu": self.resources.cpus, "gpu": self.resources.gpus}
                ),
                param_space=space,
                tune_config=tune.TuneConfig(
                    search_alg=suggest,
                    scheduler=Asha(self.objective.mode) if self.asha else None,
                    num_samples=trials if suggest else 1,
                    max_concurrent_trials=self.resources.concurrent,
                    reuse_actors=self.work.reuse,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="ray",
                    storage_path=str(self.folder.absolute()),
                    verbose=0,
                    callbacks=[Follow(ledger, self.objective, bar, trials)],
                ),
            ).fit()
