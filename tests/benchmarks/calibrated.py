"""Random weights whose activations have the spread of trained ones, for comparisons with peers.

Fresh weights would vanish or grow over a hundred layers, and random scores would all be alike: a
comparison on them would prove little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def calibrate(model: nn.Module, run: Callable[[], object], spreads: Mapping[str, float]) -> None:
    """Set frozen norms and the last layers of a network from one run, in place.

    Args:
        model: A network in evaluation mode, with fresh weights.
        run: Runs it on an image.
        spreads: Standard deviation of a layer's outputs, by the end of its name.
    """
    rng = torch.Generator().manual_seed(0)
    hooks = []
    for name, module in model.named_modules():
        if hasattr(module, "running_var"):
            # The last norm of a residual block: trained networks damp each block's contribution.
            scale = 0.3 if name.endswith(("bn3", "conv3.norm")) else 1.0
            hooks.append(module.register_forward_pre_hook(_norm_hook(rng, scale)))
        spread = next((s for end, s in spreads.items() if name.endswith(end)), None)
        if spread is not None:
            hooks.append(module.register_forward_pre_hook(_layer_hook(spread, rng)))
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()


def _norm_hook(rng: torch.Generator, scale: float) -> Callable[..., None]:
    """Give a norm the statistics of its first input, with some noise, and a random scale."""
    done = []

    def hook(module: Any, inputs: tuple[Tensor]) -> None:
        if done:
            return
        done.append(True)
        x = inputs[0].transpose(0, 1).flatten(1)
        count = len(x)
        noise = torch.rand(4, count, generator=rng)
        module.running_mean.copy_(x.mean(1) + (noise[0] - 0.5) * x.std(1))
        module.running_var.copy_(x.var(1) * (0.5 + noise[1]) + 1e-3)
        module.weight.copy_((0.5 + noise[2]) * scale)
        module.bias.copy_((noise[3] - 0.5) * scale)

    return hook


def _layer_hook(spread: float, rng: torch.Generator) -> Callable[..., None]:
    """Draw a layer's weights, so that its first output has the spread."""
    done = []

    def hook(module: Any, inputs: tuple[Tensor, ...]) -> None:
        if done:
            return
        done.append(True)
        weight = module.weight
        weight.copy_(torch.randn(weight.shape, generator=rng))
        bias = module.bias
        if bias is not None:
            bias.zero_()
        forward = type(module).forward(module, *inputs)
        weight.mul_(spread / float(forward.std()))
        if bias is not None:
            bias.copy_(torch.randn(bias.shape, generator=rng) * spread / 4)

    return hook
