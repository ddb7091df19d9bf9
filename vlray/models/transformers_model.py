"""What vlray's models have in common: a network of transformers, and what is done around it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs
from vlray.models.build import save_network
from vlray.models.protocol import Goal
from vlray.models.standardize import Standardize


class TransformersModel(nn.Module):
    """Saves its ``network`` for transformers, and standardizes regions where asked."""

    network: Any
    standardize: Standardize | None
    _new: frozenset[str]

    def _begin(self, options: ModelSection, goal: Goal, new: frozenset[str]) -> None:
        """Note what of the network the weights did not fill, and what regions become."""
        self._new = frozenset(f"network.{name}" for name in new)
        self.standardize = Standardize.of(options, goal.feature_dim)

    def save(self, folder: Path) -> None:
        """Write it for transformers; the numbers that standardize regions beside it."""
        save_network(self.network, folder)
        if self.standardize:
            self.standardize.save(folder)

    def new_parameters(self) -> frozenset[str]:
        """Name the parameters that ``weights`` did not fill."""
        return self._new

    def _standardized(self, batch: ModelInputs) -> ModelInputs:
        """Standardize the regions of a batch, and what has to be found again of them."""
        if self.standardize is None:
            return batch
        targets = batch.pretraining
        if targets is not None:
            targets = replace(targets, feat_targets=self.standardize(targets.feat_targets))
        return replace(
            batch, visual_feats=self.standardize(batch.visual_feats), pretraining=targets
        )
