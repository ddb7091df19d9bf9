"""The batches of each training step, and the random seed of the step."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from vlray.loader.inputs import ModelInputs
from vlray.loader.loader import RegionLoader


def steps_of_epoch(loader: RegionLoader, accumulate: int) -> int:
    """Return the number of steps in an epoch. The last, incomplete step is dropped.

    Raises:
        ValueError: The dataset is smaller than one step.
    """
    if not (steps := len(loader) // accumulate):
        raise ValueError(
            f"the {len(loader.dataset)} examples are fewer than one step needs; give a smaller "
            "--batch-size"
        )
    return steps


def batches_of_steps(loader: RegionLoader, accumulate: int) -> Iterator[list[ModelInputs]]:
    """Yield the batches of each step, forever, from the loader's current position in its epoch."""
    while True:
        epoch = iter(loader)
        # An incomplete step ends the epoch, so that every step has the same number of examples.
        while len(batches := list(islice(epoch, accumulate))) == accumulate:
            yield batches


def seed_step(seed: int, rank: int, step: int) -> None:
    """Seed torch's generator for one step of one worker.

    Dropout then depends on the step alone: an evaluation or a restart does not change it.
    """
    torch.manual_seed(int(np.random.SeedSequence((seed, rank, step)).generate_state(1)[0]))
