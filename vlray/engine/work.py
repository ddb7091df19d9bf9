"""The work of one worker, from the options to the last checkpoint."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import vlray
from vlray.config.train import TrainConfig
from vlray.engine.batches import steps_of_epoch
from vlray.engine.data import TrainingData, open_data
from vlray.engine.group import Group
from vlray.engine.layers import recompute_layers
from vlray.engine.loop import Outcome, Progress, Training, train
from vlray.engine.optim import freeze, make_optimizer
from vlray.engine.resume import Resumed, check_same
from vlray.engine.stop import Stop
from vlray.engine.watch import Watch
from vlray.loader.loader import RegionLoader
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.load import load_checkpoint, load_model
from vlray.models.precision import warn_without_effect
from vlray.models.store import STATE, CheckpointStore

log = logging.getLogger("vlray.engine")


@dataclass(frozen=True)
class Result:
    """How a training ended. It can be pickled."""

    outcome: Outcome
    step: int
    steps: int
    best_step: int
    best: dict[str, float]
    """Of the best evaluation, the figure first that it was told by; empty: there was none."""


def work(config: TrainConfig, run_folder: Path, stop: Stop | None = None) -> Result:
    """Train, from the last checkpoint in ``config.output`` where there is one.

    Args:
        config: The options.
        run_folder: Where the first worker leaves metrics and curves.
        stop: Asked after each step whether to end; not given: nobody asks for it.

    Raises:
        ValueError: Data, model and options do not fit together.
        FloatingPointError: A loss is not a number.
    """
    group = Group.join(use_gpu=config.cluster.use_gpu != "no")
    options = config.training
    warn_without_effect(options.precision, group.device)
    store = CheckpointStore(config.output, config.data.cache_folder())
    resumed = Resumed.read(store)
    last = None
    if resumed:
        check_same(config, resumed)
        last = store.locate("last")
    elif group.rank == 0:
        store.clean()
    data = open_data(config, trained_on=CheckpointInfo.read(last).provenance if last else None)
    loader, valid = _loaders(config, data, group)
    steps = options.steps or max(
        round(options.epochs * steps_of_epoch(loader, options.accumulate)), 1
    )

    # The model, as it begins or as it was left.
    torch.manual_seed(options.seed)
    model: nn.Module = load_checkpoint(last)[0] if last else load_model(config.model, data.goal)
    new = _new_parameters(model) if resumed is None else frozenset(resumed.new_parameters)
    freeze(model, config.model.freeze)
    if config.model.activation_checkpointing:
        recompute_layers(model)
    model.to(group.device)
    if config.model.compile:
        model.compile()
    optimizer = make_optimizer(model, config.optim, new)
    scaler = torch.amp.GradScaler(group.device.type, enabled=options.precision == "fp16")
    progress = Progress()
    if resumed and last:
        state = torch.load(last / STATE, map_location=group.device, weights_only=True)
        optimizer.load_state_dict(state["optimizer"])
        if scaler.is_enabled() and state["scaler"]:
            scaler.load_state_dict(state["scaler"])
        loader.load_state_dict(resumed.loader)
        progress = resumed.progress
        if group.rank == 0:
            log.info("going on after step %s of %s", f"{progress.step:,}", f"{steps:,}")

    watch = None
    if group.rank == 0:
        _introduce(config, data, model, loader, steps)
        history = resumed.history if resumed else []
        title = f"{config.model.name} on {config.corpus}"
        watch = Watch(run_folder, config.watch, steps=steps, title=title, history=history)

    def save(is_best: bool) -> None:
        """Write a checkpoint; the other workers have the same, and go on meanwhile."""
        if group.rank:
            return
        info = CheckpointInfo(
            vlray_version=vlray.__version__,
            model=config.model,
            goal=data.goal,
            loader=data.loader,
            corpus=config.corpus,
            regions=data.regions,
            provenance=data.provenance,
            step=progress.step,
            epoch=training.epoch(),
            metrics=progress.metrics,
        )
        assert watch is not None
        left = Resumed(
            config.resolved(), progress, loader.state_dict(), tuple(sorted(new)), watch.history
        )

        def write(folder: Path) -> None:
            model.save(folder)
            info.write(folder)
            left.write(folder, {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()})

        store.save(progress.step, write, is_best=is_best)

    training = Training(
        config, group, model, optimizer, scaler, loader, valid, progress, steps,
        stop or Stop(), watch, save, run_folder,
    )  # fmt: skip
    outcome = train(training)
    if watch:
        watch.close(_summary(config, data, model, steps))
    return Result(outcome, progress.step, steps, progress.best_step, progress.best)


def _loaders(
    config: TrainConfig, data: TrainingData, group: Group
) -> tuple[RegionLoader, RegionLoader | None]:
    """Open this worker's loaders.

    Raises:
        ValueError: A step's examples cannot be divided among workers and accumulated batches.
    """
    options, share = config.training, {"rank": group.rank, "world": group.world}
    size, rest = divmod(options.batch_size, group.world * options.accumulate)
    if rest or not size:
        raise ValueError(
            f"batch_size={options.batch_size} cannot be divided among {group.world} workers with "
            f"accumulate={options.accumulate} batches each; give a multiple of "
            f"{group.world * options.accumulate}"
        )
    train = RegionLoader(data.train, size, seed=options.seed, **share)
    if data.valid is None:
        return train, None
    return train, RegionLoader(data.valid, size, shuffle=False, **share)


def _new_parameters(model: nn.Module) -> frozenset[str]:
    names = getattr(model, "new_parameters", None)
    return names() if names else frozenset()


def _introduce(
    config: TrainConfig, data: TrainingData, model: nn.Module, loader: RegionLoader, steps: int
) -> None:
    """Say in the log what is trained on what."""
    log.info(
        "%s on %s examples of %s (%s), evaluated on %s",
        f"{config.model.name}, {_count(model):,} parameters",
        f"{len(data.train):,}",
        config.corpus,
        data.goal.objective,
        f"{len(data.valid):,}" if data.valid else "none",
    )
    log.info(
        "%s steps of %d examples, %.3g epochs",
        f"{steps:,}",
        config.training.batch_size,
        steps / steps_of_epoch(loader, config.training.accumulate),
    )


def _summary(
    config: TrainConfig, data: TrainingData, model: nn.Module, steps: int
) -> dict[str, Any]:
    """Say what the run was, for its page."""
    return {
        "data": config.corpus,
        "examples": len(data.train),
        "regions": ", ".join(data.regions.values()),
        "objective": data.goal.objective,
        "model": config.model.name,
        "weights": config.model.weights or "random",
        "parameters": _count(model),
        "steps": steps,
        "batch size": config.training.batch_size,
        "precision": config.training.precision,
    }


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
