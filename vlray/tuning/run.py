"""The whole search: check everything, try what is not known yet, write what was found."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from vlray.config.cluster import ClusterSection
from vlray.config.tune import TuneConfig
from vlray.regions.lock import only_writer
from vlray.storage import files
from vlray.tuning.ledger import Ledger, claim
from vlray.tuning.objective import Objective
from vlray.tuning.plan import Plan, make_plan
from vlray.tuning.plots import draw
from vlray.tuning.result import Result, write
from vlray.tuning.space import Space, read_space
from vlray.tuning.tuned import Setting, Tuned
from vlray.tuning.work import Resources, Work

FREE = ("cluster", "watch")
"""Sections of a command that may be other ones when a sweep goes on."""

log = logging.getLogger("vlray.tuning")


class Sweep(Protocol):
    """What is particular to searching the options of one command."""

    objective: Objective

    @property
    def about(self) -> Mapping[str, Any]:
        """Say what the sweep is, beside its space and its search; another is another sweep."""

    def why_not(self, setting: Setting) -> str:
        """Say why a setting is impossible; empty: it is not."""

    def resources(self) -> Resources:
        """Say what a trial takes of the cluster, which is connected; refuse what it lacks."""

    def prepare(self, settings: tuple[Setting, ...]) -> Work:
        """Do what is done once for all trials; no settings: any of the space may come."""


def tune(config: TuneConfig, tuned: Tuned, run_folder: Path) -> Result:
    """Search, or go on with what is in ``config.output``.

    Raises:
        ValueError: Something in the settings, the data or the folder forbids to begin.
        OSError: Something cannot be read or written.
    """
    folder = _folder(config)
    space = read_space(config.space, tuned)
    sweep = _open(config, tuned, space, folder)
    plan = make_plan(config, space, sweep.why_not)
    given = tuned.settings({})
    about = {
        "command": tuned.name,
        "given": {name: given[name] for name in given if name not in FREE},
        "space": config.space,
        "search": config.search,
        "seed": config.seed,
        "scheduler": config.scheduler,
        "objective": sweep.objective.name,
        "mode": sweep.objective.mode,
        **sweep.about,
    }
    fs, place = files.resolve(folder)
    with only_writer(fs, place, config.output):
        claim(folder, about)
        ledger = Ledger.open(folder)
        _try(config, sweep, plan, space, ledger, run_folder)
        result = Result.of(tuned, tuple(space), sweep.objective, ledger)
        write(result, folder)
        for picture in draw(result, folder):
            log.info("picture: %s", picture)
    return result


def _folder(config: TuneConfig) -> Path:
    """Give the place of the sweep.

    Raises:
        ValueError: There is none, or it is not on a disk.
    """
    if not config.output:
        raise ValueError("OUT is not given; say in which folder the sweep is kept")
    if files.is_uri(config.output):
        raise ValueError(
            f"OUT is {config.output}, but a sweep is kept on a disk; give a folder, which all "
            "nodes of the cluster have to see (images may be anywhere)"
        )
    return Path(files.resolve(config.output)[1])


def _open(config: TuneConfig, tuned: Tuned, space: Space, folder: Path) -> Sweep:
    if tuned.name == "train":
        from vlray.tuning.training import TrainSweep

        return TrainSweep(config, tuned, space, folder)
    from vlray.tuning.extraction import ExtractSweep

    return ExtractSweep(config, tuned, space, folder)


def _try(
    config: TuneConfig,
    sweep: Sweep,
    plan: Plan,
    space: Space,
    ledger: Ledger,
    run_folder: Path,
) -> None:
    """Try what is not in the ledger, and first what the options are without a search."""
    is_suggested = config.search == "optuna"
    settings = tuple(s for s in ({}, *plan.settings) if not ledger.done(s))
    done = sum(
        bool(trial.setting and ledger.done(trial.setting)) for trial in ledger.trials.values()
    )
    left = max(plan.trials - done, 0) if is_suggested else 0
    log.info(
        "%s settings, %s of them known, and the one without a search",
        f"{plan.trials:,}",
        f"{done:,}",
    )
    if not settings and not left:
        return
    from vlray.cluster.connection import connect
    from vlray.tuning.search import Search

    cluster = config.cluster
    connect(ClusterSection(address=cluster.address, object_store_gb=cluster.object_store_gb))
    resources = sweep.resources()
    if cluster.concurrent:
        resources = replace(resources, concurrent=min(resources.concurrent, cluster.concurrent))
    search = Search(
        work=sweep.prepare(() if left else settings),
        objective=sweep.objective,
        resources=resources,
        folder=run_folder,
        asha=config.scheduler == "asha",
        progress=cluster.progress,
        env=config.env,
    )
    search.try_all(settings, ledger)
    search.try_suggested(space, left, config.seed, sweep.why_not, ledger)
