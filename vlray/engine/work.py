"""Training on one worker, from the options to the last checkpoint."""

from __future__ import annotations

import functools
import logging
import math
from pathlib import Path

import torch
from torch import nn
from torch.amp import GradScaler

from vlray.config.train import TrainConfig
from vlray.engine.batches import steps_of_epoch
from vlray.engine.checkpoints import Resumed, check_same, find_whole, has_other_length, restore
from vlray.engine.compiler import check_compiler
from vlray.engine.data import TrainingData, open_data, with_local_weights
from vlray.engine.failures import explain_out_of_memory
from vlray.engine.group import Group
from vlray.engine.hooks.load import hooks_of
from vlray.engine.hooks.protocol import Hooks
from vlray.engine.layers import recompute_layers
from vlray.engine.loop import train
from vlray.engine.optim import freeze, make_optimizer
from vlray.engine.reachable import count_reachable
from vlray.engine.standardize import standardize
from vlray.engine.stop import StopRequest
from vlray.engine.summary import Fact
from vlray.engine.threads import set_threads
from vlray.engine.training import Training, TrainingProgress
from vlray.engine.watch import Watch
from vlray.loader.loader import RegionLoader
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.conform import loss_in_words, new_parameters
from vlray.models.load import is_built_in, load_checkpoint, load_model
from vlray.models.memory import is_out_of_memory
from vlray.models.plain import left_out
from vlray.models.precision import set_precision
from vlray.models.store import CheckpointStore
from vlray.settings.wording import counted

SMALL = 1_000  # examples, below which the defaults learn little more than the most frequent answer

log = logging.getLogger("vlray.engine")


def work(
    config: TrainConfig, run_folder: Path, stop: StopRequest | None = None
) -> TrainingProgress:
    """Run one worker of a training, from the last checkpoint in ``config.output`` if there is one.

    Args:
        config: Options of the training.
        run_folder: Folder in which the first worker writes metrics and curves.
        stop: Stop request, checked after each step. None: this worker receives no stop requests.

    Returns:
        The progress when the training ended or was stopped.

    Raises:
        ValueError: Data, model and options do not fit together.
        FloatingPointError: A loss or a gradient is not finite.
        MemoryError: A batch does not fit into the device's memory.
    """
    set_threads()
    group = Group.join(use_gpu=config.cluster.use_gpu != "no")
    set_precision(config.training.precision, group.device)
    size = _global_batch(config, group)
    hooks = hooks_of(config)
    store = CheckpointStore(config.output, config.data.cache_folder())
    whole = find_whole(store)
    folder = whole[1] if whole else None
    resumed = Resumed.read(store, whole[0]) if whole else None
    if resumed and folder:
        check_same(config, resumed)
        local, info = config, CheckpointInfo.read(folder)
    else:
        local, info = with_local_weights(config), None
    data = open_data(local, info)
    loader, valid = _loaders(config, data, group, size)
    progress = resumed.progress if resumed else TrainingProgress(steps=_steps(config, loader))
    if resumed and has_other_length(config, resumed):
        progress.steps = _changed_steps(progress, _steps(config, loader))
    model, new = _model(local, data, resumed, folder)
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
        stop=stop or StopRequest(),
        watch=_watch(config, run_folder, progress, resumed) if group.rank == 0 else None,
    )
    states = restore(training, resumed, folder) if resumed and folder else {}
    hooks.begin(training, states)
    if training.watch is None:
        _train(training, hooks)
        return progress
    _log_start(training)
    with training.watch as watch:
        _train(training, hooks)
        watch.close(_summary(training))
    return progress


def _train(training: Training, hooks: Hooks) -> None:
    """Train; if memory runs out, raise an error that names the options that reduce memory use."""
    try:
        train(training, hooks)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        options, world = training.config.training, training.group.world
        message = explain_out_of_memory(error, options.batch_size, world, options.accumulate)
        raise MemoryError(message) from error
    finally:
        hooks.end(training)


def _steps(config: TrainConfig, loader: RegionLoader) -> int:
    options = config.training
    steps = round(options.epochs * steps_of_epoch(loader, options.accumulate))
    return options.steps or max(steps, 1)  # a small fraction of an epoch may round to 0 steps


def _changed_steps(progress: TrainingProgress, steps: int) -> int:
    """Return the new number of steps of an unfinished training.

    Raises:
        ValueError: More steps than that are completed.
    """
    if steps <= progress.step:
        raise ValueError(
            f"{steps:,} steps were requested, but {progress.step:,} of {progress.steps:,} are "
            f"completed; pass --steps of more than {progress.step:,}, or vlray test the checkpoint"
        )
    log.info(
        "%s steps instead of %s; from here on, the learning rate follows the schedule of %s steps",
        *(f"{steps:,}", f"{progress.steps:,}", f"{steps:,}"),
    )
    return steps


def _model(
    config: TrainConfig, data: TrainingData, resumed: Resumed | None, folder: Path | None
) -> tuple[nn.Module, frozenset[str]]:
    """Build a new model, or load the model from the resumed checkpoint.

    Returns:
        The model, and the names of the parameters that were not loaded from ``model.weights``.
    """
    # All workers use the same seed, so that they initialize new parameters equally.
    torch.manual_seed(config.training.seed)
    model: nn.Module
    if resumed and folder:
        model, _ = load_checkpoint(folder, config.model.name)
        new = frozenset(resumed.new_parameters)
    else:
        model = load_model(config.model, data.goal)
        new = new_parameters(model)
        if config.model.standardize and data.loader.visual == "regions":
            standardize(model, data.train)
    freeze(model, config.model.freeze)
    if config.model.activation_checkpointing:
        recompute_layers(model)
    if config.model.compile:
        check_compiler(torch.cuda.is_available() and config.cluster.use_gpu != "no")
        # Compile in place: torch.compile(model) would rename the parameters in checkpoints.
        model.compile()
    return model, new


def _watch(
    config: TrainConfig, run_folder: Path, progress: TrainingProgress, resumed: Resumed | None
) -> Watch:
    return Watch(
        run_folder,
        config.watch,
        steps=progress.steps,
        title=f"{config.model.name} on {config.corpus}",
        history=resumed.history if resumed else [],
    )


def _global_batch(config: TrainConfig, group: Group) -> int:
    """Return the number of examples in each batch of all workers together.

    Raises:
        ValueError: The batch size is not divisible by the number of accumulated batches, or too
            small for the workers.
    """
    options = config.training
    size, rest = divmod(options.batch_size, options.accumulate)
    if rest or size < group.world:
        raise ValueError(
            f"batch_size={options.batch_size} cannot be divided into accumulate="
            f"{options.accumulate} batches for {counted(group.world, 'worker')}; pass a multiple "
            f"of {options.accumulate}, at least {options.accumulate * group.world}"
        )
    return size


def _loaders(
    config: TrainConfig, data: TrainingData, group: Group, size: int
) -> tuple[RegionLoader, RegionLoader | None]:
    """Create this worker's loaders for training and evaluation; the latter may be None."""
    # The number of workers may differ after a restart, so their shares may be unequal.
    loader = functools.partial(
        RegionLoader,
        batch_size=math.ceil(size / group.world),
        rank=group.rank,
        world=group.world,
        global_batch=size,
    )
    options = config.training
    train = loader(data.train, seed=options.seed, group_by_length=options.group_by_length)
    return train, None if data.valid is None else loader(data.valid, shuffle=False)


def _log_start(training: Training) -> None:
    """Log the model, the data, the number of steps, the loss, and the step to resume from."""
    config, data, progress = training.config, training.data, training.progress
    log.info(
        "%s with %s parameters, on %s examples of %s (%s); %s examples to evaluate on",
        config.model.name,
        f"{_count(training.model):,}",
        f"{len(data.train):,}",
        config.corpus,
        data.goal.objective,
        f"{len(data.valid):,}" if data.valid else "no",
    )
    epoch = steps_of_epoch(training.loader, config.training.accumulate)
    log.info(
        "%s steps of %d examples, %.3g epochs",
        f"{progress.steps:,}",
        config.training.batch_size,
        progress.steps / epoch,
    )
    log.info("loss: %s", loss_in_words(training.model))
    if is_built_in(config.model, data.goal) and (parts := left_out(config.model, data.goal)):
        log.info(
            "plain transformers does not have %s; `vlray export` writes what it can load",
            " and ".join(parts),
        )
    is_small = len(data.train) < SMALL and data.goal.objective == "labels"
    if is_small and not config.model.standardize:  # a sign of settings for small data
        log.info(
            "few examples: the settings in configs/train/small-data.yaml are made for them "
            "(vlray configs copy; then add --config configs/train/small-data.yaml)"
        )
    if data.goal.objective == "phrases":
        phrases, reachable = count_reachable(data.valid or data.train)
        share = 100 * reachable / max(phrases, 1)
        log.info("%.1f %% of the phrases have a correct region; no model can find more", share)
    if progress.step:
        log.info("resuming after step %s", f"{progress.step:,}")


def _summary(training: Training) -> dict[str, Fact]:
    """Return the facts about the run that begin its summary."""
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
