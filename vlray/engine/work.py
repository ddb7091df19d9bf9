"""The work of one worker, from the options to the last checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.amp import GradScaler

from vlray.config.model import ModelSection
from vlray.config.train import TrainConfig
from vlray.engine.batches import steps_of_epoch
from vlray.engine.checkpoints import Resumed, check_same, restore
from vlray.engine.data import TrainingData, open_data
from vlray.engine.failures import explain_out_of_memory
from vlray.engine.group import Group
from vlray.engine.layers import recompute_layers
from vlray.engine.loop import train
from vlray.engine.optim import freeze, make_optimizer
from vlray.engine.reachable import count_reachable
from vlray.engine.standardize import standardize
from vlray.engine.stop import Stop
from vlray.engine.training import Progress, Training
from vlray.engine.watch import Watch
from vlray.loader.loader import RegionLoader
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.conform import loss_in_words, new_parameters
from vlray.models.load import load_checkpoint, load_model
from vlray.models.memory import is_out_of_memory
from vlray.models.precision import warn_without_effect
from vlray.models.store import CheckpointStore, locate
from vlray.storage import files

log = logging.getLogger("vlray.engine")


def work(config: TrainConfig, run_folder: Path, stop: Stop | None = None) -> Progress:
    """Train, from the last checkpoint in ``config.output`` where there is one.

    Args:
        config: The options.
        run_folder: Where the first worker leaves metrics and curves.
        stop: Asked after each step whether to end; not given: nobody asks for it.

    Returns:
        How far it came.

    Raises:
        ValueError: Data, model and options do not fit together.
        FloatingPointError: A loss is not a number.
    """
    group = Group.join(use_gpu=config.cluster.use_gpu != "no")
    warn_without_effect(config.training.precision, group.device)
    batch_size = _own_batch_size(config, group)
    store = CheckpointStore(config.output, config.data.cache_folder())
    resumed, folder = Resumed.read(store), None
    trained_on = None
    if resumed:
        check_same(config, resumed)
        folder = store.locate("last")
        trained_on = CheckpointInfo.read(folder).provenance
    data = open_data(config, trained_on=trained_on)
    loader, valid = _loaders(config, data, group, batch_size)
    progress = resumed.progress if resumed else Progress(steps=_steps(config, loader))
    model, new = _model(config, data, resumed, folder)
    model.to(group.device)
    training = Training(
        config=config,
        run_folder=run_folder,
        group=group,
        data=data,
        loader=loader,
        valid=valid,
        model=model,
        new_parameters=new,
        optimizer=make_optimizer(model, config.optim, new),
        scaler=GradScaler(group.device.type, enabled=config.training.precision == "fp16"),
        progress=progress,
        store=store,
        stop=stop or Stop(),
        watch=_watch(config, run_folder, progress, resumed) if group.rank == 0 else None,
    )
    if resumed and folder:
        restore(training, resumed, folder)
    if training.watch is None:
        _train(training)
        return progress
    _introduce(training)
    with training.watch as watch:
        _train(training)
        watch.close(_summary(training))
    return progress


def _train(training: Training) -> None:
    """Train, and say what helps where the memory does not hold a batch."""
    try:
        train(training)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        options, world = training.config.training, training.group.world
        said = explain_out_of_memory(error, options.batch_size, world, options.accumulate)
        raise MemoryError(said) from error


def _steps(config: TrainConfig, loader: RegionLoader) -> int:
    options = config.training
    steps = round(options.epochs * steps_of_epoch(loader, options.accumulate))
    return options.steps or max(steps, 1)


def _model(
    config: TrainConfig, data: TrainingData, resumed: Resumed | None, folder: Path | None
) -> tuple[nn.Module, frozenset[str]]:
    """Build the model as it begins, or as it was left, and name what it began with at random."""
    torch.manual_seed(config.training.seed)
    model: nn.Module
    if resumed and folder:
        model, _ = load_checkpoint(folder)
        new = frozenset(resumed.new_parameters)
    else:
        model = load_model(_start(config.model, config.data.cache_folder()), data.goal)
        new = new_parameters(model)
        if config.model.standardize and data.loader.visual == "regions":
            standardize(model, data.train)
    freeze(model, config.model.freeze)
    if config.model.activation_checkpointing:
        recompute_layers(model)
    if config.model.compile:
        model.compile()
    return model, new


def _start(options: ModelSection, cache: Path) -> ModelSection:
    """Take the best model where the weights are the OUT of a training, on a disk or elsewhere."""
    weights = options.weights
    if weights and (files.is_uri(weights) or CheckpointStore(weights, cache).step_folder("best")):
        return options.model_copy(update={"weights": str(locate(weights, "best", cache))})
    return options


def _watch(
    config: TrainConfig, run_folder: Path, progress: Progress, resumed: Resumed | None
) -> Watch:
    return Watch(
        run_folder,
        config.watch,
        steps=progress.steps,
        title=f"{config.model.name} on {config.corpus}",
        history=resumed.history if resumed else [],
    )


def _own_batch_size(config: TrainConfig, group: Group) -> int:
    """Say how many examples of a step a worker computes at a time.

    Raises:
        ValueError: They cannot be divided among workers and accumulated batches.
    """
    options = config.training
    size, rest = divmod(options.batch_size, group.world * options.accumulate)
    if rest or not size:
        raise ValueError(
            f"batch_size={options.batch_size} cannot be divided among {group.world} workers with "
            f"accumulate={options.accumulate} batches each; give a multiple of "
            f"{group.world * options.accumulate}"
        )
    return size


def _loaders(
    config: TrainConfig, data: TrainingData, group: Group, size: int
) -> tuple[RegionLoader, RegionLoader | None]:
    """Open this worker's loaders."""
    rank, world = group.rank, group.world
    train = RegionLoader(data.train, size, seed=config.training.seed, rank=rank, world=world)
    if data.valid is None:
        return train, None
    return train, RegionLoader(data.valid, size, shuffle=False, rank=rank, world=world)


def _introduce(training: Training) -> None:
    """Say in the log what is trained on what, and from where."""
    config, data, progress = training.config, training.data, training.progress
    log.info(
        "%s, %s parameters, on %s examples of %s (%s); %s to evaluate on",
        config.model.name,
        f"{_count(training.model):,}",
        f"{len(data.train):,}",
        config.corpus,
        data.goal.objective,
        f"{len(data.valid):,}" if data.valid else "none",
    )
    epoch = steps_of_epoch(training.loader, config.training.accumulate)
    log.info(
        "%s steps of %d examples, %.3g epochs",
        f"{progress.steps:,}",
        config.training.batch_size,
        progress.steps / epoch,
    )
    log.info("loss: %s", loss_in_words(training.model))
    if data.goal.objective == "phrases":
        phrases, reachable = count_reachable(data.valid or data.train)
        share = 100 * reachable / max(phrases, 1)
        log.info("%.1f %% of the phrases have a region: no model can find more of them", share)
    if progress.step:
        log.info("going on after step %s", f"{progress.step:,}")


def _summary(training: Training) -> dict[str, Any]:
    """Say what the run was, for its page."""
    config, data = training.config, training.data
    return {
        "data": config.corpus,
        "examples": len(data.train),
        "regions": ", ".join(data.regions.values()),
        "objective": data.goal.objective,
        "loss": loss_in_words(training.model),
        "model": config.model.name,
        "weights": config.model.weights or "random",
        "parameters": _count(training.model),
        "steps": training.progress.steps,
        "batch size": config.training.batch_size,
        "precision": config.training.precision,
    }


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
