"""Start or resume a training in this process or on Ray Train workers."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from vlray.cluster.connection import is_cluster_configured
from vlray.cluster.gpus import usable_gpus
from vlray.config.train import TrainConfig
from vlray.engine.checkpoints import Resumed, check_same, find_whole
from vlray.engine.stop import StopRequest, on_signals
from vlray.engine.training import TrainingProgress
from vlray.engine.watch import check as check_trackers
from vlray.engine.work import work
from vlray.loader.open import outputs_by_name
from vlray.models.names import AUTO, named
from vlray.models.store import CheckpointStore
from vlray.regions.lock import only_writer
from vlray.settings import plugins
from vlray.storage import files
from vlray.tasks.image_sets import absolute, resolve_path

log = logging.getLogger("vlray.engine")


def run_training(
    config: TrainConfig, run_folder: Path, *, alone: bool | None = None
) -> TrainingProgress | None:
    """Start a training, or resume the one in ``config.output``.

    Args:
        config: Options of the training.
        run_folder: Folder for metrics and curves.
        alone: Whether to train in this process, without Ray Train. None: `is_alone` decides.

    Returns:
        The progress at the end; None if the training had already ended before.

    Raises:
        ValueError: The settings or the data are invalid, or do not fit the existing output.
        ImportError: The package of a configured tracker is missing.
    """
    config = resolve_paths(config)
    check_trackers(config.watch)
    fs, root = files.resolve(config.output)
    # The lock keeps two trainings from writing checkpoints to the same output.
    with only_writer(fs, root, config.output):
        store = CheckpointStore(config.output, config.data.cache_folder())
        whole = find_whole(store)
        resumed = Resumed.read(store, whole[0]) if whole else None
        config = _with_name(config, resumed)
        if resumed:
            check_same(config, resumed)
            if resumed.progress.ended:
                return None
        if is_alone(config) if alone is None else alone:
            if not config.cluster.workers and is_cluster_configured():
                log.info(
                    "training in this process; to use the running Ray cluster, pass --workers or "
                    "--cluster.address auto"
                )
            stop = StopRequest()
            with on_signals(stop):
                return work(config, run_folder, stop)
        # Import late: training in this process does not need Ray, which takes seconds to import.
        from vlray.engine.workers import fit

        return fit(config, run_folder)


def with_default_output(config: TrainConfig) -> TrainConfig:
    """Return the options with ``models/PROJECT/DATA`` as the output, if it is not set."""
    if config.output or not config.corpus:
        return config
    # The text of a corpus has colons and commas, which are awkward in folder names.
    name = re.sub(r"[^\w.-]+", "-", config.corpus).strip("-")
    return config.model_copy(update={"output": f"models/{config.project}/{name}"})


def resolve_paths(config: TrainConfig) -> TrainConfig:
    """Make the local paths of the regions and the output absolute.

    Raises:
        ValueError: DATA, REGIONS or OUT is missing.
        FileNotFoundError: A local folder of regions does not exist.
    """
    for name, value in (
        ("DATA", config.corpus),
        ("REGIONS", config.regions),
        ("OUT", config.output),
    ):
        if not value:
            raise ValueError(
                f"{name} is missing; vlray train DATA REGIONS OUT needs the examples (vqa:train), "
                "the output of vlray extract with the regions of their images, and a folder for "
                "the model"
            )
    regions = []
    for name, output in outputs_by_name(config.regions).items():
        path = absolute(resolve_path(output, config.env.data_dir))
        if not files.is_uri(path) and not Path(path).is_dir():
            raise FileNotFoundError(
                f"there are no regions in {output}; pass a folder written by vlray extract or "
                "vlray convert"
            )
        regions.append(f"{name}={path}" if name else path)
    return config.model_copy(update={"regions": tuple(regions), "output": absolute(config.output)})


def _with_name(config: TrainConfig, resumed: Resumed | None) -> TrainConfig:
    """Replace ``model.name=auto``, so that all workers and checkpoints use the same name."""
    model = config.model
    if resumed and model.name == AUTO:
        saved = str(resumed.settings["model"]["name"])
        name = plugins.confirmed(saved, config.output, "", "--model.name")
        model = model.model_copy(update={"name": name})
    return config.model_copy(update={"model": named(model, config.data.cache_folder())})


def is_alone(config: TrainConfig) -> bool:
    """Return whether to train in this process: no workers, no named cluster, at most one GPU."""
    cluster = config.cluster
    if cluster.workers or cluster.address or os.environ.get("RAY_ADDRESS"):
        return False
    return cluster.use_gpu == "no" or usable_gpus() <= 1
