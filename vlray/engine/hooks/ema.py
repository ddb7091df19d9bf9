"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vlray.engine.hooks.protocol import Hook
from vlray.engine.training import Training


class WeightAverage(Hook):
    """Evaluates and saves a moving average of the trained weights (``optim.ema``).

    A checkpoint's model is the average; the state of this hook has the weights themselves, with
    which a resumed training goes on.
    """

    def __init__(self, decay: float) -> None:
        """Set the share of the average that each step keeps."""
        self._decay = decay
        self._weights: dict[str, Tensor] = {}
        self._other: dict[str, Tensor] = {}  # the average; inside of `reading`, the weights

    def begin(self, training: Training) -> None:
        """Start the average with the weights."""
        named = training.model.named_parameters()
        self._weights = {name: weight.data for name, weight in named if weight.requires_grad}
        self._other = {name: weight.clone() for name, weight in self._weights.items()}

    def after_step(self, training: Training, values: Mapping[str, float]) -> None:
        """Move the average; over the first steps, it forgets the start faster."""
        step = training.progress.step
        decay = min(self._decay, step / (step + 9))  # a tenth of the way at least, as in TensorFlow
        torch._foreach_lerp_(list(self._other.values()), list(self._weights.values()), 1 - decay)

    @contextmanager
    def reading(self, training: Training) -> Iterator[None]:
        """Exchange the weights for the average."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def state_dict(self) -> dict[str, Any]:
        """Return the weights; the model's files have the average."""
        return dict(self._other)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the stored weights; the model has been loaded with the average."""
        for name, weight in state.items():
            self._other[name].copy_(weight)
        self._exchange()

    def _exchange(self) -> None:
        for name, weight in self._weights.items():
            kept = weight.clone()
            weight.copy_(self._other[name])
            self._other[name].copy_(kept)
