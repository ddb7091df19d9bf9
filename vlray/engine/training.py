"""State of a training on one worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from vlray.config.train import TrainConfig
from vlray.engine.batches import steps_of_epoch
from vlray.engine.data import TrainingData
from vlray.engine.group import Group
from vlray.engine.stop import StopRequest
from vlray.engine.watch import Watch
from vlray.loader.loader import RegionLoader
from vlray.models.store import CheckpointStore


@dataclass
class TrainingProgress:
    """Progress of a training, saved in its checkpoints."""

    step: int = 0
    """Number of completed steps."""

    steps: int = 0
    """Total number of steps."""

    metrics: dict[str, float] = field(default_factory=dict)
    """Metrics of the last evaluation; the first metric selects the best checkpoint."""

    best: dict[str, float] = field(default_factory=dict)
    """Metrics of the best evaluation; empty before the first one."""

    best_step: int = 0
    """Number of completed steps at the best evaluation."""

    since_best: int = 0
    """Number of evaluations since the best one."""

    ended: bool = False
    """Whether the training has ended, by its last step or by early stopping."""


@dataclass(frozen=True, eq=False)
class Training:
    """Everything that a worker needs to train: options, data, model, optimizer and progress."""

    config: TrainConfig
    run_folder: Path
    group: Group
    data: TrainingData
    loader: RegionLoader
    valid: RegionLoader | None

    model: nn.Module
    """Model on the worker's device, without the DistributedDataParallel wrapper."""

    new_parameters: frozenset[str]
    """Names of the parameters that were not loaded from ``model.weights`` in the first run."""

    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    progress: TrainingProgress
    store: CheckpointStore
    stop: StopRequest
    watch: Watch | None
    """Logger of the run; None on all workers except the first."""

    def epoch(self) -> float:
        """Return the number of passes over the training examples so far, as a fraction."""
        options = self.config.training
        return self.progress.step / steps_of_epoch(self.loader, options.accumulate)
