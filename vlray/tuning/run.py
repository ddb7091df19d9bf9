"""A complete search: check the options, run the missing trials, and write the results."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from vlray.config.cluster import ClusterSection
from vlray.config.tune import TuneConfig
from vlray.regions.lock import only_writer
from vlray.settings.json_value import JsonValue
from vlray.storage import files
from vlray.tuning.ledger import Ledger, claim
from vlray.tuning.objective import Objective
from vlray.tuning.plan import TrialPlan, make_plan
from vlray.tuning.plots import draw
from vlray.tuning.result import Result, write
from vlray.tuning.space import Space, read_space
from vlray.tuning.tuned import Setting, Tuned
from vlray.tuning.work import Resources, TrialFunction

FREE = ("cluster", "watch")
"""Sections of the searched command that may differ when a sweep is resumed."""

log = logging.getLogger("vlray.tuning")


class Sweep(Protocol):
    """Search over the options of one command."""

    objective: Objective

    @property
    def about(self) -> Mapping[str, JsonValue]:
        """What identifies the sweep, in addition to its space and the options of the search."""

    def invalid_reason(self, setting: Setting) -> str:
        """Return why a setting is invalid; an empty text if it is valid."""

    def resources(self) -> Resources:
        """Return the resources of a trial.

        Raises:
            ValueError: Not even one trial fits on the cluster.
        """

    def prepare(self, settings: tuple[Setting, ...]) -> TrialFunction:
        """Do the work that all trials share, and return the function that each trial runs.

        Args:
            settings: Settings to try; empty if Optuna will choose them from the whole space.
        """


def tune(config: TuneConfig, tuned: Tuned, run_folder: Path) -> Result:
    """Start a search, or resume the sweep in ``config.output``.

    Args:
        config: Options of the search.
        tuned: The command whose options are searched.
        run_folder: Folder of this run, for Ray Tune's files.

    Raises:
        ValueError: The settings or the data are invalid, or do not fit the existing sweep.
        OSError: A file cannot be read or written.
    """
    folder = _folder(config)
    space = read_space(config.space, tuned)
    sweep = _open(config, tuned, space, folder)
    plan = make_plan(config, space, sweep.invalid_reason)
    settings = tuned.fixed()
    about = {
        "command": tuned.name,
        "given": {name: settings[name] for name in settings if name not in FREE},
        "space": config.space,
        "search": config.search,
        "seed": config.seed,
        "scheduler": config.scheduler,
        "objective": sweep.objective.name,
        "mode": sweep.objective.mode,
        **sweep.about,
    }
    fs, root = files.resolve(folder)
    with only_writer(fs, root, config.output):
        claim(folder, about)
        ledger = Ledger.open(folder)
        _run_trials(config, sweep, plan, space, ledger, run_folder)
        result = Result.of(tuned, tuple(space), sweep.objective, ledger)
        write(result, folder)
        for picture in draw(result, folder):
            log.info("plot: %s", picture)
    return result


def _folder(config: TuneConfig) -> Path:
    """Return the folder of the sweep.

    Raises:
        ValueError: OUT is missing, or is not on a local or shared disk.
    """
    if not config.output:
        raise ValueError("OUT is missing; pass a folder for the sweep")
    if files.is_uri(config.output):
        raise ValueError(
            f"OUT is {config.output}, but a sweep must be on a disk; pass a folder that all nodes "
            "of the cluster share (the images may be anywhere)"
        )
    return Path(files.resolve(config.output)[1])


def _open(config: TuneConfig, tuned: Tuned, space: Space, folder: Path) -> Sweep:
    # Import late: a search over trainings needs no detector.
    if tuned.name == "train":
        from vlray.tuning.training import TrainSweep

        return TrainSweep(config, tuned, space, folder)
    from vlray.tuning.extraction import ExtractSweep

    return ExtractSweep(config, tuned, space, folder)


def _run_trials(
    config: TuneConfig,
    sweep: Sweep,
    plan: TrialPlan,
    space: Space,
    ledger: Ledger,
    run_folder: Path,
) -> None:
    """Run the trials that are not in the ledger, starting with the default settings."""
    is_suggested = config.search == "optuna"
    settings = tuple(s for s in ({}, *plan.settings) if not ledger.done(s))
    # The trial with the default settings is not one of those that --trials asks for.
    done = sum(
        bool(trial.setting and ledger.done(trial.setting)) for trial in ledger.trials.values()
    )
    remaining = max(plan.trials - done, 0) if is_suggested else 0
    log.info(
        "%s settings to try (%s already tried), plus the default settings",
        f"{plan.trials:,}",
        f"{done:,}",
    )
    if not settings and not remaining:
        return
    # Import and connect only now: a finished sweep needs no cluster.
    from vlray.cluster.connection import connect
    from vlray.tuning.search import Search

    cluster = config.cluster
    connect(ClusterSection(address=cluster.address, object_store_gb=cluster.object_store_gb))
    resources = sweep.resources()
    if cluster.concurrent:
        resources = replace(resources, concurrent=min(resources.concurrent, cluster.concurrent))
    # Optuna's settings are not known in advance, so the sweep then prepares for the whole space.
    search = Search(
        function=sweep.prepare(() if remaining else settings),
        objective=sweep.objective,
        resources=resources,
        folder=run_folder,
        asha=config.scheduler == "asha",
        progress=cluster.progress,
        env=config.env,
    )
    search.try_all(settings, ledger)
    search.try_suggested(space, remaining, config.seed, sweep.invalid_reason, ledger)
