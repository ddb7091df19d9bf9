"""The optimizers, what each parameter is decayed by, and the learning rate of each step."""

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
    """Adam as BERT and LXMERT were trained: no bias correction, decay beside the gradient.

    With m and v the running means of the gradient and of its square, a parameter p becomes
    ``p - lr * (m / (sqrt(v) + eps) + weight_decay * p)``.

    Source:
        airsplay/lxmert src/lxrt/optimization.py, where gradients are clipped outside as well.
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
        """Take the parameters, or groups of them with settings of their own."""
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override] # no closure, no loss
        """Change the parameters that have a gradient."""
        assert closure is None, "losses are computed outside"
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
    """Leave the parameters of these names, or patterns of names, as they are.

    Raises:
        ValueError: A pattern fits no parameter, or nothing is left to be trained.
    """
    parameters = dict(model.named_parameters())
    frozen = 0
    for pattern in patterns:
        fitting = [name for name in parameters if fnmatchcase(name, pattern)]
        if not fitting:
            near = similar(pattern, parameters, cutoff=0)
            raise ValueError(
                f"model.freeze {pattern} fits none of the model's {len(parameters)} parameters; "
                f"the nearest is {near[0] if near else 'none'}"
            )
        for name in fitting:
            frozen += parameters[name].numel()
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ValueError(f"model.freeze {', '.join(patterns)} leaves nothing to be trained")
    if frozen:
        log.info("%s parameters stay as they are (model.freeze)", f"{frozen:,}")


def make_optimizer(
    model: nn.Module, options: OptimSection, new: frozenset[str]
) -> torch.optim.Optimizer:
    """Make the optimizer of the parameters that are to be trained.

    Args:
        model: Frozen parameters are left out.
        options: What it is, and its numbers.
        new: Names of the parameters that have ``options.new_lr``, where it is given.

    Returns:
        The optimizer; its groups have, beside torch's, the ``peak_lr`` that `set_lr` scales.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            lr = options.new_lr if options.new_lr and name in new else options.lr
            # Biases and what norms scale by are the parameters of one dimension.
            decayed = options.decay_norms or parameter.ndim > 1
            decay = options.weight_decay if decayed else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
    named = [
        {"params": parameters, "lr": lr, "peak_lr": lr, "weight_decay": decay}
        for (lr, decay), parameters in groups.items()
    ]
    if options.optimizer == "bert-adam":
        return BertAdam(named, options.lr, betas=options.betas, eps=options.eps)
    return torch.optim.AdamW(named, options.lr, betas=options.betas, eps=options.eps)


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set the learning rates of a step, and give the first of them."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    return float(optimizer.param_groups[0]["lr"])


def lr_factor(step: int, steps: int, options: OptimSection) -> float:
    """Give the share of the learning rate that a step has.

    Args:
        step: Number of the step, from 0, whose rate is 0 where there is a warm-up.
        steps: Number of all steps.
        options: The warm-up's share of them, and how the rate falls afterwards.

    Source:
        ``warmup_linear`` of airsplay/lxmert src/lxrt/optimization.py.
    """
    done = step / steps
    if done < options.warmup:
        return done / options.warmup
    if options.decay == "none" or options.warmup == 1:
        return 1.0
    left = max((1 - done) / (1 - options.warmup), 0.0)
    return left if options.decay == "linear" else (1 - math.cos(math.pi * left)) / 2
