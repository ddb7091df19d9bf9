"""Run trials with Ray Tune."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

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
from vlray.tuning.work import Resources, TrialFunction

if TYPE_CHECKING:
    from vlray.tuning.suggest import OptunaSearcher

SECONDS_BETWEEN_LINES = 10.0


_AT_START = {
    # vlray shows the progress itself.
    "RAY_AIR_NEW_OUTPUT": "0",
    # Relative paths in the settings refer to the working directory.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Write no log files per trial: trials.jsonl has the same content.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # vlray handles Ctrl-C itself.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
"""Ray Tune settings that can only be set as environment variables."""


@dataclass(frozen=True, eq=False)
class Search:
    """Runs trials with Ray Tune, and adds the results to a ledger."""

    function: TrialFunction
    objective: Objective
    resources: Resources
    folder: Path
    """Folder for Ray Tune's own files."""

    asha: bool
    progress: Style
    env: EnvironmentSection

    def try_all(self, settings: Sequence[Setting], ledger: Ledger) -> None:
        """Run one trial per setting."""
        if settings:
            space = {"setting": {"grid_search": list(settings)}}
            self._run(space, len(settings), ledger, None)

    def try_suggested(
        self, space: Space, trials: int, seed: int, invalid_reason: Check, ledger: Ledger
    ) -> None:
        """Run ``trials`` trials; Optuna derives their settings from the trials in the ledger."""
        if trials > 0:
            from vlray.tuning.suggest import OptunaSearcher

            done = [trial for trial in ledger.trials.values() if ledger.done(trial.setting)]
            searcher = OptunaSearcher(space, self.objective, seed, invalid_reason, done)
            self._run({}, trials, ledger, searcher)

    def _run(
        self,
        space: Mapping[str, object],
        trials: int,
        ledger: Ledger,
        searcher: OptunaSearcher | None,
    ) -> None:
        with default_variables(_AT_START):
            import ray.tune  # before quiet_loggers(): the import sets the logger's level

            with quiet_loggers({"ray.tune": logging.CRITICAL}):
                self._fit(ray.tune, space, trials, ledger, searcher)

    def _fit(
        self,
        tune: ModuleType,
        space: Mapping[str, object],
        trials: int,
        ledger: Ledger,
        searcher: OptunaSearcher | None,
    ) -> None:
        from vlray.tuning.follow import Asha, TrialCallback, run_trial

        trainable = tune.with_parameters(
            run_trial, function=self.function, objective=self.objective, env=self.env
        )
        with (
            Bar(trials, " trials", SECONDS_BETWEEN_LINES, self.progress) as bar,
            forwarded(restores=False),
        ):
            tune.Tuner(
                tune.with_resources(
                    trainable, {"cpu": self.resources.cpus, "gpu": self.resources.gpus}
                ),
                param_space=space,
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    scheduler=Asha(self.objective.mode) if self.asha else None,
                    # grid_search runs all of its settings in each sample.
                    num_samples=trials if searcher else 1,
                    max_concurrent_trials=self.resources.concurrent,
                    reuse_actors=self.function.reuse,
                    # Ray's default name contains the setting, which may be too long for a path.
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name="ray",
                    storage_path=str(self.folder.absolute()),
                    verbose=0,
                    callbacks=[TrialCallback(ledger, self.objective, bar, trials)],
                ),
            ).fit()
