"""Experiment trackers for a run's metrics: TensorBoard, MLflow, Weights & Biases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from vlray.config.training import WatchSection
from vlray.runs.metrics import Record, metrics_of

_PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow-skinny", "wandb": "wandb"}


class Tracker(Protocol):
    """Receives the metrics of a run during the training."""

    name: str
    """Name of the tracker in messages."""

    def add(self, record: Record) -> None:
        """Log the metrics in a record."""

    def close(self) -> None:
        """End the run in the tracker."""


def check(options: WatchSection) -> None:
    """Check that the packages of the configured trackers are installed.

    Raises:
        ImportError: A package is missing; the message contains the command to install it.
    """
    for name, package in _PACKAGES.items():
        # tensorboardX is also the name of its module; the other modules have the option's name.
        module = package if name == "tensorboard" else name
        if getattr(options, name) and find_spec(module) is None:
            raise ImportError(
                f"watch.{name} needs the package {package}, which is not installed; "
                f"run: pip install {package}"
            )


def open_trackers(
    folder: Path, options: WatchSection, title: str, history: Sequence[Record]
) -> Iterator[Tracker]:
    """Yield the configured trackers, each one open and filled with the metrics of earlier steps.

    Args:
        folder: Folder of the run.
        options: Which trackers to open.
        title: Name under which the trackers list the run.
        history: Records of the earlier run that this run resumes.

    Raises:
        ValueError: A tracker failed to open, e.g. its server does not answer or requires a login.
    """
    settings_file = folder / "settings.yaml"
    settings = settings_file.read_text(encoding="utf-8") if settings_file.is_file() else ""
    if options.tensorboard:
        yield TensorBoard(folder, settings, history)
    for name, tracker_class in (("mlflow", MLflow), ("wandb", Wandb)):
        if value := getattr(options, name):
            try:
                tracker = tracker_class(value, folder, settings, title, history)
            except Exception as error:  # neither package has a base class for all of its errors
                raise ValueError(
                    f"watch.{name}={value} cannot be opened ({type(error).__name__}: {error}); "
                    f"fix that, or train without --watch.{name}"
                ) from error
            yield tracker


class TensorBoard:
    """Writes event files to the run folder, for ``tensorboard --logdir runs/PROJECT``."""

    name = "TensorBoard"

    def __init__(self, folder: Path, settings: str, history: Sequence[Record]) -> None:
        """Start a new event file, and delete event files of earlier starts in this folder."""
        from tensorboardX import SummaryWriter

        # The history has the same records, up to the resumed checkpoint.
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(folder), flush_secs=10)
        # TensorBoard renders Markdown, in which indented text is code.
        if settings:
            self._writer.add_text("settings", "    " + settings.replace("\n", "\n    "), 0)
        for record in history:
            self.add(record)

    def add(self, record: Record) -> None:
        """Log the metrics in a record."""
        for name, value in _tagged(record):
            self._writer.add_scalar(name, value, record["step"], walltime=record["time"])

    def close(self) -> None:
        """End the run in the tracker."""
        self._writer.close()


class MLflow:
    """Logs to a run of the MLflow experiment named after the project."""

    name = "MLflow"

    def __init__(
        self, uri: str, folder: Path, settings: str, title: str, history: Sequence[Record]
    ) -> None:
        """Resume the MLflow run of this folder, or create one."""
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=uri)
        project = folder.resolve().parent.name
        experiment = self._client.get_experiment_by_name(project)
        id_ = experiment.experiment_id if experiment else self._client.create_experiment(project)
        # Find the run by its tag, so that a restart in the same folder continues it.
        path = str(folder.resolve())
        runs = self._client.search_runs([id_], f"tags.`vlray.folder` = '{path}'")
        # An existing run already has the settings and the earlier records.
        if runs:
            self._run = runs[0].info.run_id
            return
        tags = {"vlray.folder": path}
        self._run = self._client.create_run(id_, tags=tags, run_name=title).info.run_id
        for name, value in _parameters(settings):
            self._client.log_param(self._run, name, value)
        for record in history:
            self.add(record)

    def add(self, record: Record) -> None:
        """Log the metrics in a record."""
        from mlflow.entities import Metric

        # MLflow expects milliseconds.
        when = round(record["time"] * 1000)
        metrics = [Metric(name, value, when, record["step"]) for name, value in _tagged(record)]
        # Asynchronously, so that the training does not wait for the server.
        self._client.log_batch(self._run, metrics=metrics, synchronous=False)

    def close(self) -> None:
        """End the run in the tracker."""
        self._client.set_terminated(self._run)


class Wandb:
    """Logs to a run of a Weights & Biases project; offline with ``WANDB_MODE=offline``."""

    name = "Weights & Biases"

    def __init__(
        self, project: str, folder: Path, settings: str, title: str, history: Sequence[Record]
    ) -> None:
        """Resume the Weights & Biases run of this folder, or create one."""
        import wandb

        # With the folder's name as id, a restart in the same folder continues the run.
        self._run = wandb.init(
            project=project,
            name=title,
            id=folder.name,
            resume="allow",
            dir=str(folder),
            config=dict(_parameters(settings)),
        )
        # wandb's own step counter must not decrease, but vlray's does when a run is resumed from an
        # earlier checkpoint.
        self._run.define_metric("*", step_metric="step")
        for record in history:
            self.add(record)

    def add(self, record: Record) -> None:
        """Log the metrics in a record."""
        self._run.log({"step": record["step"], **dict(_tagged(record))})

    def close(self) -> None:
        """End the run in the tracker."""
        self._run.finish()


def _tagged(record: Record) -> Iterator[tuple[str, float]]:
    for name, value in metrics_of(record).items():
        yield f"{record['kind']}/{name}", value


def _parameters(settings: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the value of each setting, as parameters for MLflow and W&B."""
    import yaml

    from vlray.settings.options import flatten

    values: Mapping[str, object] = yaml.safe_load(settings) or {}
    for path, value in flatten(values).items():
        yield ".".join(path), str(value)
