"""Where a training is computed: in this process, or by workers of Ray Train."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from vlray.cluster.connection import running_here
from vlray.config.train import TrainConfig
from vlray.engine.checkpoints import Resumed, check_same
from vlray.engine.group import has_gpu
from vlray.engine.stop import Stop, on_signals
from vlray.engine.training import Progress
from vlray.engine.watch import check as check_trackers
from vlray.engine.work import work
from vlray.loader.open import outputs_by_name
from vlray.models.names import AUTO, named
from vlray.models.store import CheckpointStore
from vlray.regions.lock import only_writer
from vlray.storage import files
from vlray.tasks.image_sets import absolute, resolve_path

log = logging.getLogger("vlray.engine")


def run_training(
    config: TrainConfig, run_folder: Path, *, alone: bool | None = None
) -> Progress | None:
    """Train, or go on with what is in ``config.output``.

    Args:
        config: The options.
        run_folder: Where metrics and curves go.
        alone: Whether this process computes it, without Ray Train; None: where it is enough.

    Returns:
        How it ended; None: there was nothing left to do.

    Raises:
        ValueError: Something in the settings, the data or the output forbids to begin.
        ImportError: A package to watch with is missing.
    """
    config = placed(config)
    check_trackers(config.watch)
    fs, root = files.resolve(config.output)
    with only_writer(fs, root, config.output):
        resumed = Resumed.read(CheckpointStore(config.output, config.data.cache_folder()))
        config = _with_name(config, resumed)
        if resumed:
            check_same(config, resumed)
            if resumed.progress.ended:
                return None
        if is_alone(config) if alone is None else alone:
            stop = Stop()
            with on_signals(stop):
                return work(config, run_folder, stop)
        from vlray.engine.workers import fit

        return fit(config, run_folder)


def in_project(config: TrainConfig) -> TrainConfig:
    """Give a training without OUT a place among the project's models: models/PROJECT/DATA."""
    if config.output or not config.corpus:
        return config
    name = re.sub(r"[^\w.-]+", "-", config.corpus).strip("-")
    return config.model_copy(update={"output": f"models/{config.project}/{name}"})


def placed(config: TrainConfig) -> TrainConfig:
    """Check that all three places are given, and make the local ones absolute.

    Raises:
        ValueError: One is not given.
        FileNotFoundError: There are no such regions.
    """
    for name, value in (
        ("DATA", config.corpus),
        ("REGIONS", config.regions),
        ("OUT", config.output),
    ):
        if not value:
            raise ValueError(
                f"{name} is not given; vlray train DATA REGIONS OUT wants the examples "
                "(vqa:train), the output of vlray extract that has their images, and a folder for "
                "the model"
            )
    regions = []
    for name, place in outputs_by_name(config.regions).items():
        where = absolute(resolve_path(place, config.env.data_dir))
        if not files.is_uri(where) and not Path(where).is_dir():
            raise FileNotFoundError(
                f"there are no regions in {place}; give a folder that vlray extract or vlray "
                "convert wrote"
            )
        regions.append(f"{name}={where}" if name else where)
    return config.model_copy(update={"regions": tuple(regions), "output": absolute(config.output)})


def _with_name(config: TrainConfig, resumed: Resumed | None) -> TrainConfig:
    """Settle which model is trained, so that all workers and the checkpoints say the same."""
    model = config.model
    if resumed and model.name == AUTO:
        model = model.model_copy(update={"name": resumed.settings["model"]["name"]})
    return config.model_copy(update={"model": named(model, config.data.cache_folder())})


def is_alone(config: TrainConfig) -> bool:
    """Tell whether this process is enough: no workers, no cluster and one GPU at most."""
    cluster = config.cluster
    if cluster.workers or cluster.address or os.environ.get("RAY_ADDRESS") or running_here():
        return False
    if cluster.use_gpu != "no" and has_gpu():
        import torch

        return torch.cuda.device_count() == 1
    return True
