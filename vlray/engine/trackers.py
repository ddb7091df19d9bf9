"""Who else keeps a run's figures: TensorBoard's files, MLflow, Weights & Biases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from vlray.config.training import WatchSection
from vlray.runs.metrics import Record, metrics_of

_PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow-skinny", "wandb": "wandb"}


class Tracker(Protocol):
    """Takes the figures as they come."""

    name: str
    """What it is called in messages."""

    def add(self, record: Record) -> None:
        """Take the figures of a step."""

    def close(self) -> None:
        """Take no more."""


def check(options: WatchSection) -> None:
    """Refuse to track with a package that is not installed, before anything is computed.

    Raises:
        ImportError: It names the package and how to install it.
    """
    for name, package in _PACKAGES.items():
        module = package if name == "tensorboard" else name
        if getattr(options, name) and find_spec(module) is None:
            raise ImportError(
                f"watch.{name} wants the package {package}, which is not installed; "
                f"pip install {package}"
            )


def open_trackers(
    folder: Path, options: WatchSection, title: str, history: Sequence[Record]
) -> Iterator[Tracker]:
    """Begin with those that are asked for, and give each the figures of the steps before.

    Args:
        folder: The run's.
        options: Which ones.
        title: The run's name in their lists.
        history: Of an earlier run that this one goes on with.

    Raises:
        ValueError: One of them cannot begin: no server answers, nobody is logged in.
    """
    settings_file = folder / "settings.yaml"
    settings = settings_file.read_text(encoding="utf-8") if settings_file.is_file() else ""
    if options.tensorboard:
        yield TensorBoard(folder, settings, history)
    for name, begin in (("mlflow", MLflow), ("wandb", Wandb)):
        if value := getattr(options, name):
            try:
                tracker = begin(value, folder, settings, title, history)
            except Exception as error:  # theirs are of many kinds
                raise ValueError(
                    f"watch.{name}={value} takes no runs ({type(error).__name__}: {error}); "
                    f"mend that, or train without --watch.{name}"
                ) from error
            yield tracker


class TensorBoard:
    """Event files in the run folder, so that ``tensorboard --logdir runs/PROJECT`` lists runs."""

    name = "TensorBoard"

    def __init__(self, folder: Path, settings: str, history: Sequence[Record]) -> None:
        """Begin a new file in the place of those of an interrupted start."""
        from tensorboardX import SummaryWriter

        # What they hold is in the history as well, up to the checkpoint that is gone on from.
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(folder), flush_secs=10)
        if settings:
            self._writer.add_text("settings", "    " + settings.replace("\n", "\n    "), 0)
        for record in history:
            self.add(record)

    def add(self, record: Record) -> None:
        """Take the figures of a step."""
        for name, value in _tagged(record):
            self._writer.add_scalar(name, value, record["step"], walltime=record["time"])

    def close(self) -> None:
        """Take no more."""
        self._writer.close()


class MLflow:
    """A run of an MLflow experiment that is named like the project."""

    name = "MLflow"

    def __init__(
        self, uri: str, folder: Path, settings: str, title: str, history: Sequence[Record]
    ) -> None:
        """Go on with the run of this folder, or begin one."""
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        project = folder.resolve().parent.name
        known = self._client.get_experiment_by_name(project)
        experiment = known.experiment_id if known else self._client.create_experiment(project)
        place = str(folder.resolve())
        found = self._client.search_runs([experiment], f"tags.`vlray.folder` = '{place}'")
        if found:
            self._run = found[0].info.run_id
            return
        tags = {"vlray.folder": place}
        self._run = self._client.create_run(experiment, tags=tags, run_name=title).info.run_id
        for name, value in _parameters(settings):
            self._client.log_param(self._run, name, value)
        for record in history:
            self.add(record)

    def add(self, record: Record) -> None:
        """Take the figures of a step."""
        from mlflow.entities import Metric

        when = round(record["time"] * 1000)
        metrics = [Metric(name, value, when, record["step"]) for name, value in _tagged(record)]
        # Another thread sends them: the training does not wait for a server.
        self._client.log_batch(self._run, metrics=metrics, synchronous=False)

    def close(self) -> None:
        """Take no more."""
        self._client.set_terminated(self._run)


class Wandb:
    """A run of a Weights & Biases project; with ``WANDB_MODE=offline`` its files alone."""

    name = "Weights & Biases"

    def __init__(
        self, project: str, folder: Path, settings: str, title: str, history: Sequence[Record]
    ) -> None:
        """Go on with the run of this folder, or begin one."""
        import wandb

        self._run = wandb.init(
            project=project,
            name=title,
            id=folder.name,
            resume="allow",
            dir=str(folder),
            config=dict(_parameters(settings)),
        )
        # Its own steps must never go back, as they do after an interrupted start.
        self._run.define_metric("*", step_metric="step")
        for record in history:
            self.add(record)

    def add(self, record: Record) -> None:
        """Take the figures of a step."""
        self._run.log({"step": record["step"], **dict(_tagged(record))})

    def close(self) -> None:
        """Take no more."""
        self._run.finish()


def _tagged(record: Record) -> Iterator[tuple[str, float]]:
    for name, value in metrics_of(record).items():
        yield f"{record['kind']}/{name}", value


def _parameters(settings: str) -> Iterator[tuple[str, str]]:
    """List the settings by their dotted names, as MLflow's parameters are named."""
    import yaml

    from vlray.settings.options import flatten

    values: Mapping[str, Any] = yaml.safe_load(settings) or {}
    for path, value in flatten(values).items():
        yield ".".join(path), str(value)
