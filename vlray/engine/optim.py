"""Optimizers, weight decay per parameter, and the learning rate schedule."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from vlray.config.training import OptimSection
from vlray.settings.wording import similar

log = logging.getLogger("vlray.engine")


class BertAdam(torch.optim.Optimizer):
    """Adam as used to train BERT and LXMERT: no bias correction, decoupled weight decay.

    A step updates a parameter p to ``p - lr * (m / (sqrt(v) + eps) + weight_decay * p)``, where m
    and v are the running means of the gradient and of the squared gradient.

    Source:
        airsplay/lxmert src/lxrt/optimization.py. As in LXMERT, the caller clips the gradients.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]] | Iterable[Tensor],
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        """Create an optimizer for parameters, or for parameter groups with their own settings."""
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override] # no closure, no loss
        """Update the parameters that have a gradient."""
        assert closure is None, "closures are not supported"
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if not params:
                continue
            for param in params:
                if not self.state[param]:
                    self.state[param] = {
                        "mean": torch.zeros_like(param),
                        "square": torch.zeros_like(param),
                    }
            # torch._foreach_* updates many parameters with one kernel; a loop over the parameters
            # would mostly wait for kernel launches.
            grads = [param.grad for param in params]
            means = [self.state[param]["mean"] for param in params]
            squares = [self.state[param]["square"] for param in params]
            beta1, beta2 = group["betas"]
            torch._foreach_mul_(means, beta1)
            torch._foreach_add_(means, grads, alpha=1 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
            updates = torch._foreach_sqrt(squares)
            torch._foreach_add_(updates, group["eps"])
            updates = torch._foreach_div(means, updates)
            if group["weight_decay"]:
                torch._foreach_add_(updates, params, alpha=group["weight_decay"])
            torch._foreach_add_(params, updates, alpha=-group["lr"])


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Exclude parameters from training.

    Args:
        model: The model.
        patterns: Parameter names, in which ``*`` and ``?`` are wildcards.

    Raises:
        ValueError: A pattern matches no parameter, or all parameters are frozen.
    """
    parameters = dict(model.named_parameters())
    frozen = 0
    for pattern in patterns:
        matches = [name for name in parameters if fnmatchcase(name, pattern)]
        if not matches:
            # cutoff=0: name the most similar parameter, however different it is.
            near = similar(pattern, parameters, cutoff=0)
            raise ValueError(
                f"model.freeze {pattern} matches none of the model's {len(parameters)} parameters; "
                f"the most similar name is {near[0] if near else 'none'}"
            )
        for name in matches:
            frozen += parameters[name].numel()
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ValueError(
            f"model.freeze {', '.join(patterns)} freezes all parameters of the model; remove a "
            "pattern"
        )
    if frozen:
        log.info("%s parameters are frozen (model.freeze)", f"{frozen:,}")


def make_optimizer(
    model: nn.Module, options: OptimSection, new: frozenset[str]
) -> torch.optim.Optimizer:
    """Create an optimizer for the parameters that are not frozen.

    Args:
        model: The model.
        options: Type and hyperparameters of the optimizer.
        new: Names of the parameters whose learning rate is ``options.new_lr``, unless that is 0.

    Returns:
        The optimizer. Its parameter groups have the additional key ``peak_lr``, the learning rate
        that `set_lr` scales.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            lr = options.new_lr if options.new_lr and name in new else options.lr
            # One-dimensional parameters are biases and the scales of normalization layers.
            decayed = options.decay_norms or parameter.ndim > 1
            decay = options.weight_decay if decayed else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
    param_groups = [
        {"params": parameters, "lr": lr, "peak_lr": lr, "weight_decay": decay}
        for (lr, decay), parameters in groups.items()
    ]
    if options.optimizer == "bert-adam":
        return BertAdam(param_groups, options.lr, betas=options.betas, eps=options.eps)
    return torch.optim.AdamW(param_groups, options.lr, betas=options.betas, eps=options.eps)


@torch.no_grad()
def clip_each(parameters: Iterable[nn.Parameter], max_norm: float) -> None:
    """Scale each parameter's gradient down to a norm of ``max_norm``.

    Source:
        BertAdam of pytorch_pretrained_bert, in uclanlp/visualbert.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch._foreach_norm(gradients)
    # The same small number as in torch's clip_grad_norm_.
    scales = (max_norm / (torch.stack(norms) + 1e-6)).clamp(max=1)
    torch._foreach_mul_(gradients, scales.unbind())


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set each group's learning rate to its peak times ``factor``; return the first group's."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])


def lr_factor(step: int, steps: int, options: OptimSection) -> float:
    """Return the factor by which the schedule scales the peak learning rate at a step.

    Args:
        step: Number of the step, from 0. With a warmup, the factor is 0 at step 0.
        steps: Total number of steps.
        options: Length of the warmup, as a share of the steps, and the decay after the warmup.

    Source:
        ``warmup_linear`` in airsplay/lxmert src/lxrt/optimization.py.
    """
    done = step / steps
    if done < options.warmup:
        return done / options.warmup
    # After a warmup over all steps nothing can decay, and the division below would be by 0.
    if options.decay == "none" or options.warmup == 1:
        return 1.0
    left = max((1 - done) / (1 - options.warmup), 0.0)
    return left if options.decay == "linear" else (1 - math.cos(math.pi * left)) / 2
