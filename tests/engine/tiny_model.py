"""A model in a file of its own, as a user would write it: quick, and with all that models have."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs
from vlray.models.protocol import Goal, Loss, ModelOutputs

WIDTH = 16


class Layer(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.norm(states + self.dropout(torch.tanh(self.linear(states))))


class Tiny(nn.Module):
    """Adds up the words and the regions.

    ``architecture`` may have ``dropout``; ``by_words``: long questions weigh more; ``nan_at``: the
    question whose loss is not a number; ``memory_at``: the one whose batch does not fit into the
    memory; ``kill_at``: the one whose worker is killed, as long as there is no file ``once``.
    """

    def __init__(self, options: ModelSection, goal: Goal) -> None:
        super().__init__()
        self.settings = {"dropout": 0.0} | options.architecture
        self.words = nn.Embedding(30_522, WIDTH)
        self.regions = nn.Linear(goal.feature_dim, WIDTH)
        self.layers = nn.ModuleList(Layer(self.settings["dropout"]) for _ in range(2))
        self.head = nn.Linear(WIDTH, len(goal.labels))
        self.unused = nn.Linear(2, 2)
        self._new = frozenset(name for name, _ in self.named_parameters())
        if options.weights:
            self.load_state_dict(load_file(Path(options.weights) / "tiny.safetensors"))
            self._new = frozenset()

    @classmethod
    def loader_defaults(cls, options: ModelSection, goal: Goal) -> Mapping[str, Any]:
        return {"boxes": "none"}

    def new_parameters(self) -> frozenset[str]:
        return self._new

    def forward(self, batch: ModelInputs, *, attention: bool = False) -> ModelOutputs:
        if self.training:
            self._misbehave(batch)
        words = (self.words(batch.input_ids) * batch.attention_mask[..., None]).sum(1)
        states = words + self.regions(batch.visual_feats.float().sum(1))
        for layer in self.layers:
            states = layer(states)
        scores = self.head(states)
        assert batch.label_ids is not None
        known = batch.label_ids >= 0
        each = nn.functional.cross_entropy(
            scores.float(), batch.label_ids.clamp(min=0), reduction="none"
        )
        if self._has(batch, "nan_at") and self.training:
            each = each * float("nan")
        words_count = batch.attention_mask.sum(1) if self.settings.get("by_words") else 1
        weights = known * words_count
        count = weights.sum().float()
        return ModelOutputs({"answer": Loss((each * weights).sum() / count, count)}, scores)

    def save(self, folder: Path) -> None:
        save_file(self.state_dict(), folder / "tiny.safetensors")

    def _misbehave(self, batch: ModelInputs) -> None:
        if self._has(batch, "memory_at"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        once = Path(self.settings.get("once", ""))
        if self._has(batch, "kill_at") and not once.exists():
            once.touch()
            os.kill(os.getpid(), 9)

    def _has(self, batch: ModelInputs, name: str) -> bool:
        return str(self.settings.get(name)) in batch.example_ids
