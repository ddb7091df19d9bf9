"""Trials of ``-- train``: each is a training that resumes from its own checkpoint."""

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
from vlray.engine.data import corpus_spec, open_data
from vlray.engine.group import listener
from vlray.engine.trainer import resolve_paths, run_training
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
from vlray.tuning.work import Report, Resources, TrialFunction

POLL_S = 0.5
"""Seconds between checks for new evaluations of Ray Train workers."""


@dataclass(frozen=True, eq=False)
class TrainingTrials:
    """Function of the trials of ``-- train``: train and return the best metrics."""

    tuned: Tuned
    objective: Objective
    folder: Path
    """Parent of the trials' folders."""

    cwd: Path
    """Base folder of relative paths."""

    reuse: bool = False

    def __call__(self, setting: Setting, report: Report) -> Mapping[str, float]:
        """Train under a setting, and return the metrics of the best evaluation."""
        if self.cwd.is_dir():
            os.chdir(self.cwd)
        folder = self.folder / trial_id(setting)
        config = cast(TrainConfig, self.tuned.config(setting, folder / "model"))
        return train_once(config, folder / "run", self.objective, report)


def train_once(
    config: TrainConfig, run_folder: Path, objective: Objective, report: Report | None
) -> dict[str, float]:
    """Train, or resume a training, and return the metrics of its best evaluation.

    Args:
        config: Options of the training. Without workers, it runs in this process.
        run_folder: Folder for its metrics and curves.
        objective: Metric that selects the best evaluation. With an empty name, it is the
            evaluation of the training's best checkpoint.
        report: Called with the metrics of each evaluation; it may end the training.

    Raises:
        ValueError: The training was never evaluated.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    if config.cluster.workers:
        # Ray Train's workers are other processes, so their evaluations are read from the file.
        with _followed(run_folder / METRICS, report):
            run_training(config, run_folder, alone=False)
    else:
        # In this process the loop itself reports; its metrics have the step in addition.
        token = listener.set(report and (lambda metrics: report(_without_step(metrics))))
        try:
            run_training(config, run_folder, alone=True)
        finally:
            listener.reset(token)
    evaluations = of_kind("valid", _records(run_folder / METRICS))
    if not evaluations:
        raise ValueError(
            f"the training in {config.output} was never evaluated; give valid or holdout"
        )
    if objective.name in evaluations[-1]:
        evaluations.sort(key=lambda record: objective.key(_number(record[objective.name])))
        return _numbers(evaluations[0])
    marked = [record for record in evaluations if record.get("best")]
    return _numbers((marked or evaluations)[-1])


class TrainSweep:
    """Search over the options of ``vlray train``.

    Attributes:
        objective: The metric to optimize; by default the first one of the evaluations.
        about: Empty: the settings identify the sweep.
    """

    def __init__(self, config: TuneConfig, tuned: Tuned, space: Space, folder: Path) -> None:
        """Check the options, and open the data with the default settings.

        Raises:
            ValueError: The training has no evaluations, the data do not fit together, or the
                objective is unknown.
            FileNotFoundError: Examples or regions do not exist.
        """
        for name, value in (("truth", config.truth), ("downstream", config.downstream)):
            if value:
                raise ValueError(f"--{name} is an option for -- extract; remove it")
        self._config, self._tuned, self._folder = config, tuned, folder
        base = cast(TrainConfig, tuned.config({}, "-"))
        check_validation(base, "after --")
        self._workers = base.cluster
        self.objective = make_objective(_objective_name(config.objective, base), config.mode)
        self.about: Mapping[str, Any] = {}

    def invalid_reason(self, setting: Setting) -> str:
        """Return why the command refuses a setting; empty if it accepts it."""
        try:
            self._tuned.config(setting, "-")
        except ValueError as error:
            return str(error)
        return ""

    def resources(self) -> Resources:
        """Return the resources of a training."""
        return for_trainings(self._config.cluster, self._workers)

    def prepare(self, settings: tuple[Setting, ...]) -> TrialFunction:
        """Return the function of the trials; they share no work."""
        return TrainingTrials(self._tuned, self.objective, self._folder / "trials", Path.cwd())


def _objective_name(objective: str, config: TrainConfig) -> str:
    """Return the metric by which trainings are compared.

    Raises:
        ValueError: The objective is unknown, or has no default.
    """
    data = open_data(resolve_paths(config))
    assert data.valid is not None
    names = _metric_names(data.valid)
    # The parts of the loss depend on the model, which is not built here: run_trial() checks them.
    if objective.startswith("loss/"):
        return objective
    if not objective:
        if names[0] != "loss":
            return names[0]
        raise ValueError(
            "this task has no default metric; give --objective loss or --objective accuracy"
        )
    check_name(objective, names, " and the parts of the loss (loss/NAME)")
    return objective


def check_validation(config: TrainConfig, where: str) -> None:
    """Check that a training has examples to evaluate on.

    Args:
        config: Options of the training.
        where: Where the user gives these options, for the error message.

    Raises:
        ValueError: It has none.
    """
    if not config.validation.valid and not config.validation.holdout:
        raise ValueError(
            "trainings are compared on examples that they do not train on; give "
            f"valid (DATASET:SPLIT) or holdout (0.2) {where}"
        )


def is_scored(config: TrainConfig) -> bool:
    """Return whether the evaluations of a training have a score, where higher is better.

    It opens the examples only, because the regions may not exist yet.

    Raises:
        ValueError: A dataset or split is unknown.
        FileNotFoundError: A file of a dataset does not exist.
    """
    data = config.data.below(config.env.data_dir)
    corpus = open_corpus(corpus_spec(config), data)
    if config.validation.valid:
        corpus = open_corpus(config.validation.valid, data, corpus.label_space)
    specs = {table.spec.name: table.spec for table in corpus.tables}
    metrics = [spec.metric for spec in specs.values()]
    is_supervised = config.objective not in ("matching", "pretraining")
    return is_supervised and len(metrics) == 1 and metrics[0] in SCORED


def _metric_names(valid: RegionDataset) -> list[str]:
    """Return the names of an evaluation's metrics, except those that depend on the model."""
    names: list[str] = []
    tables = valid.corpus.tables
    metric = tables[0].spec.metric
    if len({table.spec.name for table in tables}) == 1 and metric in SCORED and has_labels(valid):
        names += score(metric, usable_examples(valid), {}).values
    return [*names, "loss", "accuracy"]


@contextmanager
def _followed(path: Path, report: Report | None) -> Iterator[None]:
    """Report each evaluation that a training's workers write to ``path``, while inside."""
    is_over = threading.Event()

    def follow() -> None:
        reported = 0
        while not is_over.wait(POLL_S):
            evaluations = of_kind("valid", _records(path))
            for record in evaluations[reported:]:
                assert report is not None
                report(_numbers(record))  # if the search stops the trial, Ray ends this process
            # A restart of the workers rewrites the file, and may shorten it for a while.
            reported = max(reported, len(evaluations))

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
    """Read the records of a run, without an incomplete last line."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _numbers(record: Record) -> dict[str, float]:
    return {name: _number(value) for name, value in metrics_of(record).items()}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
