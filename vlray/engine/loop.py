"""The training loop: steps, evaluations and checkpoints, the same on every worker."""

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
from vlray.engine.evaluate import Evaluation, evaluate
from vlray.engine.failures import check_finite
from vlray.engine.group import Group, listener
from vlray.engine.hooks.protocol import Hooks
from vlray.engine.optim import clip_each, lr_factor, set_lr
from vlray.engine.ray_train import Preemption, report
from vlray.engine.training import Training
from vlray.engine.word_masking import mask_words
from vlray.loader.inputs import ModelInputs
from vlray.loader.loader import RegionLoader
from vlray.models.precision import autocast
from vlray.models.protocol import Loss


def train(training: Training, hooks: Hooks) -> None:
    """Run the remaining steps, until the last one, early stopping or a stop request.

    Args:
        training: Options, data, model, optimizer and progress.
        hooks: Extensions, which have begun.

    Raises:
        FloatingPointError: A loss or a gradient is not finite; ``nan-batch.json`` in the run folder
            lists the examples.
    """
    config, progress, group = training.config, training.progress, training.group
    options, scaler = config.training, training.scaler
    evaluate_every = options.evaluate_every or steps_of_epoch(training.loader, options.accumulate)
    save_every = options.save_every or evaluate_every
    parameters = [parameter for parameter in training.model.parameters() if parameter.requires_grad]
    wrapped = distributed(training.model, group)
    clock, preemption = Clock(training.loader), Preemption()
    training.stop.has_begun = True  # from here on, a signal ends the training with a checkpoint

    for batches in batches_of_steps(training.loader, options.accumulate):
        lr = set_lr(training.optimizer, lr_factor(progress.step, progress.steps, config.optim))
        seed_step(options.seed, group.rank, progress.step)
        training.model.train()

        batch_losses, norm = run_step(training, wrapped, parameters, batches)
        progress.step += 1

        # The only point of a step that waits for the device: read the losses and the norm, and
        # learn whether a worker was asked to stop or save, or is to look for nodes about to go.
        flags = [training.stop.requested(), hooks.want_save(training), preemption.is_due()]
        losses, grad_norm, totals = read_step(batch_losses, norm, flags, group)
        is_stopped, is_wanted, is_asking = totals
        # An infinite norm is no error yet if the scaler can still lower its scale.
        may_overflow = scaler.is_enabled() and scaler.get_scale() >= 1
        checked = 0.0 if may_overflow else grad_norm
        check_finite(losses, checked, batches, progress.step, group, training.run_folder)
        clock.add(options.batch_size)  # all workers together
        parts = {f"loss/{name}": value for name, value in losses.items()}
        values = {"loss": sum(losses.values()), **(parts if len(parts) > 1 else {})}
        values |= {"lr": lr, "grad_norm": grad_norm, "epoch": training.epoch()}
        hooks.after_step(training, values)
        if training.watch:
            training.watch.progress(progress.step, values["loss"], lr, options.batch_size)
            if progress.step % options.log_every == 0 or progress.step == progress.steps:
                training.watch.step(progress.step, values | clock.read())

        # Evaluation and checkpoint.
        is_last = progress.step == progress.steps
        is_best = training.valid is None  # without evaluations, the last checkpoint is the best
        evaluated = None
        if training.valid and (is_last or progress.step % evaluate_every == 0):
            with hooks.reading(training):
                evaluated = evaluate(training.model, training.valid, group, options.precision)
                hooks.after_evaluation(training, evaluated.values)
            is_best = record_evaluation(training, evaluated)
            clock.restart()
        is_early = bool(options.patience) and progress.since_best >= options.patience
        progress.ended = is_last or is_early
        # Without evaluations every step counts as the best, which must not save at every step.
        is_due = progress.step % save_every == 0 or (is_best and training.valid is not None)
        is_due |= is_wanted or (is_asking and preemption.is_new())
        step_folder = ""
        if progress.ended or is_stopped or is_due:
            with hooks.reading(training):
                step_folder = save(training, hooks.state_dict(), is_best=is_best)
            clock.restart()
        if evaluated or step_folder:
            metrics = {"step": progress.step, "train_loss": values["loss"]}
            report(metrics | progress.metrics, training.run_folder, step_folder, group)
        if progress.ended or is_stopped:
            break


def run_step(
    training: Training,
    wrapped: nn.Module,
    parameters: Sequence[nn.Parameter],
    batches: Sequence[ModelInputs],
) -> tuple[list[dict[str, Tensor]], Tensor]:
    """Run a step's passes and the optimizer, without waiting for the device (except in fp16).

    Args:
        training: Optimizer, scaler and options.
        wrapped: The model, or DistributedDataParallel around it.
        parameters: The model's trained parameters.
        batches: The batches whose gradients are accumulated.

    Returns:
        The losses of each batch, by name, and the norm of the gradients before clipping.
    """
    config, group = training.config, training.group
    tokenizer = training.data.train.collate.tokenizer
    optimizer, scaler = training.optimizer, training.scaler
    # Forward and backward passes; the workers exchange gradients only in the last batch's.
    batch_losses: list[dict[str, Tensor]] = []
    for number, batch in enumerate(batches, start=1):
        with no_gradient_sync(wrapped) if number < len(batches) else nullcontext():
            inputs = mask_words(batch, config.training.word_masking, tokenizer)
            inputs = inputs.to(group.device, non_blocking=True)
            with autocast(config.training.precision, group.device):
                outputs = wrapped(inputs)
            loss, means = weight_losses(outputs.losses, group)
            scaler.scale(loss / len(batches)).backward()  # type: ignore[no-untyped-call] # torch's
        batch_losses.append(means)

    # Optimizer step, which the scaler skips if fp16 gradients overflowed.
    scaler.unscale_(optimizer)
    # If clip is 0, the norm is measured, but the gradients are not clipped.
    norm = nn.utils.clip_grad_norm_(parameters, config.optim.clip or math.inf)
    if config.optim.clip_each:
        clip_each(parameters, config.optim.clip_each)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return batch_losses, norm


def weight_losses(losses: Mapping[str, Loss], group: Group) -> tuple[Tensor, dict[str, Tensor]]:
    """Weight the losses so that the averaged gradients equal those of one large batch.

    Each worker's mean is weighted by the number of items that the worker scored. A loss over masked
    tokens thus becomes the mean over the tokens of all workers, not the mean of the workers' means.

    Returns:
        The loss for this worker's backward pass, and the means over all workers, by name.
    """
    names = sorted(losses)
    means = torch.stack([losses[name].mean.float() for name in names])
    counts = torch.stack([losses[name].count.float() for name in names])
    if group.world == 1:
        return means.sum(), dict(zip(names, means.detach(), strict=True))
    both = group.all_reduce(torch.stack([means.detach() * counts, counts]))
    # A loss without any scored item, such as no masked region, becomes 0 instead of NaN.
    total = both[1].clamp(min=1e-12)
    # DistributedDataParallel averages the gradients, so the loss is scaled by the worker count.
    loss = (means * counts / total).sum() * group.world
    return loss, dict(zip(names, both[0] / total, strict=True))


def read_step(
    batch_losses: Sequence[dict[str, Tensor]], norm: Tensor, flags: Sequence[bool], group: Group
) -> tuple[dict[str, float], float, list[bool]]:
    """Copy the results of a step from the device in one transfer.

    Returns:
        The losses by name, each averaged over the batches in which it occurs; the norm of the
        gradients before clipping; and for each flag whether any worker has set it.
    """
    names = sorted({name for means in batch_losses for name in means})
    values = [torch.stack([m[name] for m in batch_losses if name in m]).mean() for name in names]
    # A signal may reach only some workers, but all must stop or save after the same step.
    numbers = [torch.full((), float(flag), device=group.device) for flag in flags]
    counts = group.all_reduce(torch.stack(numbers))
    results = torch.stack([*values, norm.float(), *counts]).tolist()
    *losses, grad_norm = results[: -len(flags)]
    is_set = [count > 0 for count in results[-len(flags) :]]
    return dict(zip(names, losses, strict=True)), grad_norm, is_set


def record_evaluation(training: Training, evaluated: Evaluation) -> bool:
    """Record and report an evaluation; return whether it is the best so far."""
    progress = training.progress
    is_best = evaluated.beats(progress.best)
    if is_best:
        progress.best, progress.best_step = evaluated.values, progress.step
    progress.since_best = 0 if is_best else progress.since_best + 1
    progress.metrics = evaluated.values
    if training.watch:
        training.watch.evaluated(progress.step, evaluated.values, best=is_best)
    if listen := listener.get():
        listen({"step": progress.step, **evaluated.values})
    return is_best


def distributed(model: nn.Module, group: Group) -> nn.Module:
    """Wrap the model in DistributedDataParallel if there is more than one worker."""
    if group.world == 1:
        return model
    # The search for unused parameters costs a walk through the graph in each step, and the buffers
    # of vlray's own models never change.
    return DistributedDataParallel(
        model,
        find_unused_parameters=not getattr(model, "uses_all_parameters", False),
        broadcast_buffers=not hasattr(model, "uses_all_parameters"),
    )


def no_gradient_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Return a context that delays the gradient exchange until the next backward pass outside."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


class Clock:
    """Measures the training speed, and the share of time spent waiting for data."""

    def __init__(self, loader: RegionLoader) -> None:
        self._loader = loader
        self.restart()

    def restart(self) -> None:
        """Restart the measurement; call this after evaluations and checkpoints to exclude them."""
        self._began, self._waited, self._examples = time.perf_counter(), self._loader.waited, 0

    def add(self, examples: int) -> None:
        """Add the examples of a step."""
        self._examples += examples

    def read(self) -> dict[str, float]:
        """Return ``examples_per_s`` and ``waited`` (share of time), and restart the measurement."""
        seconds = max(time.perf_counter() - self._began, 1e-9)
        speed = {
            "examples_per_s": self._examples / seconds,
            "waited": (self._loader.waited - self._waited) / seconds,
        }
        self.restart()
        return speed
