"""Batches and random seed of each training step."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from vlray.loader.inputs import ModelInputs
from vlray.loader.loader import RegionLoader


def steps_of_epoch(loader: RegionLoader, accumulate: int) -> int:
    """Return the number of steps in an epoch; an incomplete last step is dropped.

    Raises:
        ValueError: The dataset is smaller than one step.
    """
    if not (steps := len(loader) // accumulate):
        raise ValueError(
            f"the {len(loader.dataset)} examples are fewer than one step needs; pass a smaller "
            "--batch-size"
        )
    return steps


def batches_of_steps(loader: RegionLoader, accumulate: int) -> Iterator[list[ModelInputs]]:
    """Yield the batches of each step, endlessly, from the loader's position in its epoch."""
    while True:
        epoch = iter(loader)
        # An incomplete step ends the epoch and is dropped: all steps have equally many examples.
        while len(batches := list(islice(epoch, accumulate))) == accumulate:
            yield batches


def seed_step(seed: int, rank: int, step: int) -> None:
    """Seed torch's random number generator for one step on one worker.

    Dropout then depends only on these arguments, not on earlier evaluations or restarts.
    """
    # SeedSequence mixes the three numbers; a sum of them would repeat among workers and steps.
    torch.manual_seed(int(np.random.SeedSequence((seed, rank, step)).generate_state(1)[0]))
