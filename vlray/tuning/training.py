"""Trials of ``-- train``: each trial is a training, which can resume from its own checkpoint."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from vlray.config.train import TrainConfig
from vlray.config.tune import TuneConfig
from vlray.engine.data import corpus_spec, open_data, with_local_weights
from vlray.engine.group import listener
from vlray.engine.trainer import resolve_paths, run_training
from vlray.evaluation.predict import has_labels, usable_examples
from vlray.loader.dataset import RegionDataset
from vlray.runs.metrics import METRICS, Record, metrics_of, of_kind
from vlray.settings.json_value import JsonValue
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
    """Function that trials of ``-- train`` run: it trains and returns the best metrics."""

    tuned: Tuned
    objective: Objective
    folder: Path
    """Parent folder of the trials' folders."""

    cwd: Path
    """Folder that relative paths refer to."""

    reuse: bool = False

    def __call__(self, setting: Setting, report: Report) -> Mapping[str, float]:
        """Train under a setting, and return the metrics of the best evaluation."""
        # Relative paths refer to the driver's working directory, if this node has it.
        if self.cwd.is_dir():
            os.chdir(self.cwd)
        folder = self.folder / trial_id(setting)
        config = cast(TrainConfig, self.tuned.config(setting, folder / "model"))
        return train_once(config, folder / "run", self.objective, report)


def train_once(
    config: TrainConfig, run_folder: Path, objective: Objective, report: Report | None
) -> dict[str, float]:
    """Start or resume a training, and return the metrics of the best evaluation.

    Args:
        config: Options of the training. If ``cluster.workers`` is 0, it runs in this process.
        run_folder: Folder for metrics and curves.
        objective: Metric that selects the best evaluation. If the name is empty or is not among the
            metrics, the evaluation of the best checkpoint counts as the best.
        report: Called with the metrics of each evaluation; the call may end the training. None: do
            not report evaluations.

    Raises:
        ValueError: The training was never evaluated.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    if config.cluster.workers:
        # Ray Train's workers are other processes, so their evaluations are read from the file.
        with _followed(run_folder / METRICS, report):
            run_training(config, run_folder, alone=False)
    else:
        # In this process, the training loop calls the listener, with the step among the metrics.
        token = listener.set(report and (lambda metrics: report(_without_step(metrics))))
        try:
            run_training(config, run_folder, alone=True)
        finally:
            listener.reset(token)
    evaluations = of_kind("valid", _records(run_folder / METRICS))
    if not evaluations:
        raise ValueError(
            f"the training in {config.output} was never evaluated; pass valid or holdout"
        )
    if objective.name in evaluations[-1]:
        evaluations.sort(key=lambda record: objective.key(_number(record[objective.name])))
        return _numbers(evaluations[0])
    # The training marks each evaluation that improved; the last one belongs to OUT/best.
    marked = [record for record in evaluations if record.get("best")]
    return _numbers((marked or evaluations)[-1])


class TrainSweep:
    """Search over the options of ``vlray train``.

    Attributes:
        objective: The metric to optimize; by default the first metric of the evaluations.
        about: Empty, because the options of the search already identify the sweep.
    """

    def __init__(self, config: TuneConfig, tuned: Tuned, space: Space, folder: Path) -> None:
        """Check the options, and open the data under the default settings.

        Raises:
            ValueError: The training has no evaluations, the data do not fit together, or the
                objective is unknown.
            FileNotFoundError: An annotation file or a region output does not exist.
        """
        for name, value in (("truth", config.truth), ("downstream", config.downstream)):
            if value:
                raise ValueError(f"--{name} is an option for -- extract; remove it")
        self._config, self._tuned, self._folder = config, tuned, folder
        base = cast(TrainConfig, tuned.config({}, "-"))
        check_validation(base, "after --")
        self._workers = base.cluster
        self.objective = make_objective(_objective_name(config.objective, base), config.mode)
        self.about: Mapping[str, JsonValue] = {}

    def invalid_reason(self, setting: Setting) -> str:
        """Return why a setting is invalid; an empty text if it is valid."""
        try:
            self._tuned.config(setting, "-")
        except ValueError as error:
            return str(error)
        return ""

    def resources(self) -> Resources:
        """Return the resources of a trial, which is a training."""
        return for_trainings(self._config.cluster, self._workers)

    def prepare(self, settings: tuple[Setting, ...]) -> TrialFunction:
        """Return the function that each trial runs; trainings share no work."""
        return TrainingTrials(self._tuned, self.objective, self._folder / "trials", Path.cwd())


def _objective_name(objective: str, config: TrainConfig) -> str:
    """Return the name of the metric by which trainings are compared.

    Raises:
        ValueError: The objective is unknown, or is not given and the task has no default.
    """
    data = open_data(with_local_weights(resolve_paths(config)))
    assert data.valid is not None
    names = _metric_names(data.valid)
    # The parts of the loss depend on the model, which is not built here; run_trial() checks them.
    if objective.startswith("loss/"):
        return objective
    if not objective:
        if names[0] != "loss":
            return names[0]
        raise ValueError(
            "this task has no default metric; pass --objective loss or --objective accuracy"
        )
    check_name(objective, names, " and the parts of the loss (loss/NAME)")
    return objective


def check_validation(config: TrainConfig, where: str) -> None:
    """Check that a training has examples to evaluate on.

    Args:
        config: Options of the training.
        where: Where the user sets these options, for the error message.

    Raises:
        ValueError: Neither a validation split nor a holdout is set.
    """
    if not config.validation.valid and not config.validation.holdout:
        raise ValueError(
            "trainings are compared on examples that they do not train on; pass "
            f"valid (DATASET:SPLIT) or holdout (0.2) {where}"
        )


def is_scored(config: TrainConfig) -> bool:
    """Return whether the evaluations of a training include a task score besides the loss.

    Only the examples are opened, because the regions may not exist yet.

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
    """Return the names of the metrics in an evaluation, except those that depend on the model."""
    names: list[str] = []
    tables = valid.corpus.tables
    metric = tables[0].spec.metric
    if len({table.spec.name for table in tables}) == 1 and metric in SCORED and has_labels(valid):
        names += score(metric, usable_examples(valid), {}).values
    return [*names, "loss", "accuracy"]


@contextmanager
def _followed(path: Path, report: Report | None) -> Iterator[None]:
    """Report the evaluations that Ray Train workers write to ``path`` during the ``with`` block."""
    is_over = threading.Event()

    def follow() -> None:
        reported = 0
        while not is_over.wait(POLL_S):
            evaluations = of_kind("valid", _records(path))
            for record in evaluations[reported:]:
                assert report is not None
                report(_numbers(record))  # if the search stops the trial, Ray ends this process
            # When workers restart, they rewrite the file, which may be shorter for a while.
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
    """Read the records of a run, except for an incomplete last line."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _numbers(record: Record) -> dict[str, float]:
    return {name: _number(value) for name, value in metrics_of(record).items()}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
