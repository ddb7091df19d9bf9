"""The loop: steps, evaluations, checkpoints; from top to bottom, the same on every worker."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vlray.engine.batches import batches_of_steps, seed_step, steps_of_epoch
from vlray.engine.checkpoints import save
from vlray.engine.evaluate import Evaluated, evaluate
from vlray.engine.failures import refuse_not_finite
from vlray.engine.group import Group
from vlray.engine.optim import lr_factor, set_lr
from vlray.engine.training import Training
from vlray.loader.loader import RegionLoader
from vlray.models.precision import autocast
from vlray.models.protocol import Loss


def train(training: Training) -> None:
    """Make the steps that are left, until the end or until somebody wants it to stop.

    Raises:
        FloatingPointError: A loss or gradient is not a number; its examples are in the run folder.
    """
    config, progress, group = training.config, training.progress, training.group
    options, optimizer, scaler = config.training, training.optimizer, training.scaler
    evaluate_every = options.evaluate_every or steps_of_epoch(training.loader, options.accumulate)
    save_every = options.save_every or evaluate_every
    parameters = [parameter for parameter in training.model.parameters() if parameter.requires_grad]
    wrapped = distributed(training.model, group)
    clock = Clock(training.loader)
    training.stop.has_begun = True

    for batches in batches_of_steps(training.loader, options.accumulate):
        lr = set_lr(optimizer, lr_factor(progress.step, progress.steps, config.optim))
        seed_step(options.seed, group.rank, progress.step)
        training.model.train()

        # Forward and backward, batch by batch; the gradients are exchanged with the last of them.
        found: list[dict[str, Tensor]] = []
        for number, batch in enumerate(batches, start=1):
            with without_exchange(wrapped) if number < len(batches) else nullcontext():
                with autocast(options.precision, group.device):
                    outputs = wrapped(batch.to(group.device, non_blocking=True))
                loss, means = weigh(outputs.losses, group)
                scaler.scale(loss / len(batches)).backward()  # type: ignore[no-untyped-call] # torch's
            found.append(means)

        # The step; the scaler leaves it out where gradients of 16 bits were too large.
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(parameters, config.optim.clip or math.inf)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        progress.step += 1

        # The only look at the device: what the losses were, and whether any worker is to stop.
        losses, grad_norm, is_stopped = read(found, norm, training.stop.wanted(), group)
        may_overflow = scaler.is_enabled() and scaler.get_scale() >= 1
        checked = 0.0 if may_overflow else grad_norm
        refuse_not_finite(losses, checked, batches, progress.step, group, training.run_folder)
        clock.add(options.batch_size)
        if training.watch:
            total = sum(losses.values())
            training.watch.progress(progress.step, total, lr, options.batch_size)
            if progress.step % options.log_every == 0 or progress.step == progress.steps:
                parts = {f"loss/{name}": value for name, value in losses.items()}
                values = {"loss": total, **(parts if len(parts) > 1 else {})}
                values |= {"lr": lr, "grad_norm": grad_norm, "epoch": training.epoch()}
                training.watch.step(progress.step, values | clock.read())

        # Evaluation and checkpoint.
        is_last = progress.step == progress.steps
        is_best = training.valid is None
        if training.valid and (is_last or progress.step % evaluate_every == 0):
            evaluated = evaluate(training.model, training.valid, group, options.precision)
            is_best = note(training, evaluated)
            clock.restart()
        is_early = bool(options.patience) and progress.since_best >= options.patience
        progress.ended = is_last or is_early
        is_due = progress.step % save_every == 0 or (is_best and training.valid is not None)
        if progress.ended or is_stopped or is_due:
            save(training, is_best=is_best)
            clock.restart()
        if progress.ended or is_stopped:
            break


def weigh(losses: Mapping[str, Loss], group: Group) -> tuple[Tensor, dict[str, Tensor]]:
    """Weigh a batch's losses so that the workers' gradients average to those of one batch.

    A worker's mean counts by what it is the mean of: a loss over masked tokens is then the mean
    over the tokens of all workers, not the mean of the workers' means.

    Returns:
        What this worker computes gradients of, and the means over all workers by name.
    """
    names = sorted(losses)
    means = torch.stack([losses[name].mean.float() for name in names])
    counts = torch.stack([losses[name].count.float() for name in names])
    if group.world == 1:
        return means.sum(), dict(zip(names, means.detach(), strict=True))
    both = group.all_reduce(torch.stack([means.detach() * counts, counts]))
    total = both[1].clamp(min=1e-12)
    # Times the number of workers: DistributedDataParallel divides by it.
    loss = (means * counts / total).sum() * group.world
    return loss, dict(zip(names, both[0] / total, strict=True))


def read(
    found: Sequence[dict[str, Tensor]], norm: Tensor, is_stopped: bool, group: Group
) -> tuple[dict[str, float], float, bool]:
    """Bring what a step computed from the device to Python, all at once.

    Returns:
        The losses by name, means over the batches that have them; the norm of the gradients before
        clipping; and whether any worker is to stop.
    """
    names = sorted({name for means in found for name in means})
    values = [torch.stack([m[name] for m in found if name in m]).mean() for name in names]
    stops = group.all_reduce(torch.tensor(float(is_stopped), device=group.device))
    *losses, grad_norm, wanted = torch.stack([*values, norm.float(), stops]).tolist()
    return dict(zip(names, losses, strict=True)), grad_norm, wanted > 0


def note(training: Training, evaluated: Evaluated) -> bool:
    """Keep what an evaluation gave, and tell whether it is the best so far."""
    progress = training.progress
    is_best = evaluated.beats(progress.best)
    if is_best:
        progress.best, progress.best_step = evaluated.values, progress.step
    progress.since_best = 0 if is_best else progress.since_best + 1
    progress.metrics = evaluated.values
    if training.watch:
        training.watch.evaluated(progress.step, evaluated.values, best=is_best)
    training.group.report({"step": progress.step, **evaluated.values})
    return is_best


def distributed(model: nn.Module, group: Group) -> nn.Module:
    """Let the workers exchange their gradients; one alone has nothing to exchange."""
    if group.world == 1:
        return model
    # Heads of transformers' LXMERT and VisualBERT have parameters that not every loss reaches.
    return DistributedDataParallel(model, find_unused_parameters=True)


def without_exchange(model: nn.Module) -> AbstractContextManager[None]:
    """Keep gradients to this worker, to be exchanged with those of a later batch."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


class Clock:
    """How fast it goes since it was last read, and how much of that was waiting for data."""

    def __init__(self, loader: RegionLoader) -> None:
        self._loader = loader
        self.restart()

    def restart(self) -> None:
        """Begin anew: evaluations and checkpoints are not what is measured."""
        self._began, self._waited, self._examples = time.perf_counter(), self._loader.waited, 0

    def add(self, examples: int) -> None:
        """Count a step's examples."""
        self._examples += examples

    def read(self) -> dict[str, float]:
        """Give ``examples_per_s`` and ``waited``, and begin anew."""
        seconds = max(time.perf_counter() - self._began, 1e-9)
        speed = {
            "examples_per_s": self._examples / seconds,
            "waited": (self._loader.waited - self._waited) / seconds,
        }
        self.restart()
        return speed
