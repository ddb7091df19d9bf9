"""Layers that keep nothing of what they computed, and compute it once more on the way back."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_layers(model: nn.Module) -> None:
    """Let the members of the model's ``ModuleList`` s be computed twice in the place of kept.

    Names of parameters stay as they are, and a checkpoint is the same with and without.

    Raises:
        ValueError: The model has no such list.
    """
    layers = list(_layers(model))
    if not layers:
        raise ValueError(
            "model.activation_checkpointing wants a model whose layers are in a torch.nn."
            f"ModuleList; {type(model).__name__} has none"
        )
    for layer in layers:
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """Give the members of the outermost lists."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _layers(child)
