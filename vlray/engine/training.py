"""A training under way, as one worker has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from vlray.config.train import TrainConfig
from vlray.engine.batches import steps_of_epoch
from vlray.engine.data import TrainingData
from vlray.engine.group import Group
from vlray.engine.stop import Stop
from vlray.engine.watch import Watch
from vlray.loader.loader import RegionLoader
from vlray.models.store import CheckpointStore


@dataclass
class Progress:
    """Where a training stands; with the parameters and the optimizer all that it goes on from."""

    step: int = 0
    """Steps that were made."""

    steps: int = 0
    """Steps of the whole training."""

    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last evaluation, the figure first that checkpoints are compared by."""

    best: dict[str, float] = field(default_factory=dict)
    """Of the best evaluation; empty: there was none."""

    best_step: int = 0
    since_best: int = 0
    """Evaluations since then."""

    ended: bool = False
    """Whether nothing is left to be done: all steps were made, or no better evaluation came."""


@dataclass(frozen=True, eq=False)
class Training:
    """What a worker trains, by what, and where it leaves it."""

    config: TrainConfig
    run_folder: Path
    group: Group
    data: TrainingData
    loader: RegionLoader
    valid: RegionLoader | None

    model: nn.Module
    """The plain one, on the worker's device."""

    new_parameters: frozenset[str]
    """Names of those that ``model.weights`` did not fill, when the training began."""

    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    progress: Progress
    store: CheckpointStore
    stop: Stop
    watch: Watch | None
    """The first worker's; the others have none."""

    def epoch(self) -> float:
        """How many passes over the examples were made."""
        options = self.config.training
        return self.progress.step / steps_of_epoch(self.loader, options.accumulate)
