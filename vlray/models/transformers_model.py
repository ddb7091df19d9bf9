"""Base class of the built-in models: a transformers network and optional parts around it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from torch import nn
from transformers import PreTrainedModel

from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs
from vlray.models.auxiliary import Auxiliary
from vlray.models.build import save_network
from vlray.models.protocol import Goal
from vlray.models.standardize import Standardize


class TransformersModel(nn.Module):
    """Model around a transformers ``network``.

    It may standardize the region vectors, and learn a field of the examples as well.
    """

    uses_all_parameters: ClassVar[bool] = True
    """Whether every loss trains every parameter that is not frozen, whatever the batch."""

    network: PreTrainedModel
    standardize: Standardize | None
    auxiliary: Auxiliary | None
    _new: frozenset[str]

    def _set_up(self, options: ModelSection, goal: Goal, new: frozenset[str]) -> None:
        """Record the parameters that the weights did not fill, and build the standardization."""
        # The network is a submodule, so this prefix is part of its parameter names.
        self._new = frozenset(f"network.{name}" for name in new)
        self.standardize = Standardize.of(options, goal.feature_dim)
        self.auxiliary = Auxiliary.of(options, goal, self.network.config.hidden_size)
        if self.auxiliary and not self.auxiliary.is_loaded:
            names = (name for name, _ in self.auxiliary.named_parameters())
            self._new |= {f"auxiliary.{name}" for name in names}

    def save(self, folder: Path) -> None:
        """Write the network in transformers' format, and the parts that it does not have."""
        save_network(self.network, folder)
        for part in (self.standardize, self.auxiliary):
            if part:
                part.save(folder)

    def new_parameters(self) -> frozenset[str]:
        """Return the names of the parameters that ``weights`` did not fill."""
        return self._new

    def _standardize_regions(self, batch: ModelInputs) -> ModelInputs:
        """Standardize the region vectors of a batch, and the feature targets for pretraining."""
        if self.standardize is None:
            return batch
        targets = batch.pretraining
        if targets is not None:
            # The model predicts masked features on the same scale as the inputs.
            targets = replace(targets, feat_targets=self.standardize(targets.feat_targets))
        return replace(
            batch, visual_feats=self.standardize(batch.visual_feats), pretraining=targets
        )
