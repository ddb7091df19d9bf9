"""Activation checkpointing of a model's layers."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_layers(model: nn.Module) -> None:
    """Apply activation checkpointing to each module in the model's outermost ``ModuleList``.

    A model may have several of them, such as one per modality.

    Parameter names do not change, so saved models are the same with and without checkpointing.

    Raises:
        ValueError: The model has no ``ModuleList``.
    """
    layers = list(_layers(model))
    if not layers:
        raise ValueError(
            "model.activation_checkpointing needs a model whose layers are in a torch.nn."
            f"ModuleList; {type(model).__name__} has none"
        )
    for layer in layers:
        # A wrapper module would rename the parameters; replacing `forward` does not.
        layer.forward = functools.partial(checkpoint, layer.forward, use_reentrant=False)


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules in each outermost ``ModuleList``."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _layers(child)
