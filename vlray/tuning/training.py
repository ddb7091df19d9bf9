"""Trials that train: each a training of its own, which goes on from its own checkpoint."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from vlray.config.train import TrainConfig
from vlray.config.tune import TuneConfig
from vlray.engine.data import named_spec, open_data
from vlray.engine.group import listener
from vlray.engine.trainer import placed, run_training
from vlray.evaluation.predict import has_labels, usable_examples
from vlray.loader.dataset import RegionDataset
from vlray.runs.metrics import METRICS, Record, metrics_of, of_kind
from vlray.tasks.corpus import open_corpus
from vlray.tasks.metrics import SCORED, score
from vlray.tuning.capacity import for_trainings
from vlray.tuning.ledger import trial_id
from vlray.tuning.objective import Objective, check_name, make_objective
from vlray.tuning.space import Space
from vlray.tuning.tuned import Setting, Tuned
from vlray.tuning.work import Report, Resources, Work

POLL_S = 0.5
"""How often it is looked whether workers have evaluated."""


@dataclass(frozen=True, eq=False)
class Trainings:
    """What a trial does for ``-- train``."""

    tuned: Tuned
    objective: Objective
    folder: Path
    """Of the trials; each has one of its own in it."""

    cwd: Path
    """What relative paths are meant from."""

    reuse: bool = False

    def __call__(self, setting: Setting, report: Report) -> Mapping[str, float]:
        """Train, and give the figures of the evaluation that the objective was best in."""
        if self.cwd.is_dir():
            os.chdir(self.cwd)
        folder = self.folder / trial_id(setting)
        config = cast(TrainConfig, self.tuned.config(setting, folder / "model"))
        return train_once(config, folder / "run", self.objective, report)


def train_once(
    config: TrainConfig, run_folder: Path, objective: Objective, report: Report | None
) -> dict[str, float]:
    """Train, or go on, and give the figures of the best evaluation.

    Args:
        config: Of the training; without workers, this process computes it.
        run_folder: For its metrics and curves.
        objective: The best of it is looked for; one without a name: the trainings' own best.
        report: Told of each evaluation; it may end the training.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    if config.cluster.workers:
        with _followed(run_folder / METRICS, report):
            run_training(config, run_folder, alone=False)
    else:
        token = listener.set(report and (lambda metrics: report(_without_step(metrics))))
        try:
            run_training(config, run_folder, alone=True)
        finally:
            listener.reset(token)
    evaluations = of_kind("valid", _records(run_folder / METRICS))
    if not evaluations:
        raise ValueError(f"the training in {config.output} was not evaluated")
    if objective.name in evaluations[-1]:
        evaluations.sort(key=lambda record: objective.key(_number(record[objective.name])))
        return _numbers(evaluations[0])
    marked = [record for record in evaluations if record.get("best")]
    return _numbers((marked or evaluations)[-1])


class TrainSweep:
    """A search among trainings.

    Attributes:
        objective: The figure that was asked for, or the first of the trainings' evaluations.
        about: Nothing more.
    """

    def __init__(self, config: TuneConfig, tuned: Tuned, space: Space, folder: Path) -> None:
        """Open the data of the training without a search, before anything is trained.

        Raises:
            ValueError: Nothing is evaluated, the data do not fit, or there is no such figure.
            FileNotFoundError: Examples or regions are not there.
        """
        for name, value in (("truth", config.truth), ("downstream", config.downstream)):
            if value:
                raise ValueError(f"{name} is for -- extract; leave it away")
        self._config, self._tuned, self._folder = config, tuned, folder
        base = cast(TrainConfig, tuned.config({}, "-"))
        check_validation(base, "behind --")
        self._workers = base.cluster
        self.objective = make_objective(_settle(config.objective, base), config.mode)
        self.about: Mapping[str, Any] = {}

    def why_not(self, setting: Setting) -> str:
        """Say what the command's settings have against it."""
        try:
            self._tuned.config(setting, "-")
        except ValueError as error:
            return str(error)
        return ""

    def resources(self) -> Resources:
        """Give what a training takes."""
        return for_trainings(self._config.cluster, self._workers)

    def prepare(self, settings: tuple[Setting, ...]) -> Work:
        """Prepare nothing."""
        return Trainings(self._tuned, self.objective, self._folder / "trials", Path.cwd())


def _settle(objective: str, config: TrainConfig) -> str:
    """Give the figure that trainings are compared by.

    Raises:
        ValueError: There is no such figure.
    """
    data = open_data(placed(config))
    assert data.valid is not None
    known = _figures_of(data.valid)
    if objective.startswith("loss/"):  # of the model, which is not built here
        return objective
    if not objective:
        if known[0] != "loss":
            return known[0]
        raise ValueError("say by which figure trainings are compared: --objective loss or accuracy")
    check_name(objective, known, " and the parts of the loss (loss/NAME)")
    return objective


def check_validation(config: TrainConfig, where: str) -> None:
    """Refuse a training that evaluates nothing.

    Raises:
        ValueError: It does not.
    """
    if not config.validation.valid and not config.validation.holdout:
        raise ValueError(
            "trainings are compared by what they reach on examples that they do not see; give "
            f"valid (DATASET:SPLIT) or holdout (0.2) {where}"
        )


def is_scored(config: TrainConfig) -> bool:
    """Open the examples of a training whose regions are still to be made.

    Returns:
        Whether its evaluations are told by a score, which is better the higher it is.

    Raises:
        ValueError: There is no such dataset or split.
        FileNotFoundError: Its files are not there.
    """
    data = config.data.below(config.env.data_dir)
    corpus = open_corpus(named_spec(config), data)
    if config.validation.valid:
        corpus = open_corpus(config.validation.valid, data, corpus.label_space)
    specs = {table.spec.name: table.spec for table in corpus.tables}
    metrics = [spec.metric for spec in specs.values()]
    is_plain = config.objective not in ("matching", "pretraining")
    return is_plain and len(metrics) == 1 and metrics[0] in SCORED


def _figures_of(valid: RegionDataset) -> list[str]:
    """Name the figures of an evaluation, as far as they are known before there is a model."""
    names: list[str] = []
    tables = valid.corpus.tables
    metric = tables[0].spec.metric
    if len({table.spec.name for table in tables}) == 1 and metric in SCORED and has_labels(valid):
        names += score(metric, usable_examples(valid), {}).values
    return [*names, "loss", "accuracy"]


@contextmanager
def _followed(path: Path, report: Report | None) -> Iterator[None]:
    """While it lasts, tell of each evaluation that the workers of a training write."""
    is_over = threading.Event()

    def follow() -> None:
        told = 0
        while not is_over.wait(POLL_S):
            found = of_kind("valid", _records(path))
            for record in found[told:]:
                assert report is not None
                report(_numbers(record))  # where the search ends the trial, its process ends
            told = max(told, len(found))

    thread = threading.Thread(target=follow, name="vlray-follow", daemon=True)
    if report:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        if report:
            thread.join()


def _without_step(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name != "step"}


def _records(path: Path) -> list[Record]:
    """Read what was measured; the last line of a killed training may be half written."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _numbers(record: Record) -> dict[str, float]:
    return {name: _number(value) for name, value in metrics_of(record).items()}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
