"""The batches of each step, epoch after epoch, and what is drawn at random in it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from vlray.loader.inputs import ModelInputs
from vlray.loader.loader import RegionLoader


def steps_of_epoch(loader: RegionLoader, accumulate: int) -> int:
    """Count the steps of an epoch; what does not fill a step is left out, as what fills no batch.

    Raises:
        ValueError: There is none.
    """
    if not (steps := len(loader) // accumulate):
        raise ValueError(
            f"the {len(loader.dataset)} examples do not fill a single step; give a smaller "
            "--batch-size"
        )
    return steps


def batches_of_steps(loader: RegionLoader, accumulate: int) -> Iterator[list[ModelInputs]]:
    """Give the batches of one step after another, without an end, from where the epoch stands."""
    while True:
        epoch = iter(loader)
        while len(batches := list(islice(epoch, accumulate))) == accumulate:
            yield batches


def seed_step(seed: int, rank: int, step: int) -> None:
    """Seed what a worker draws in a step, so that a resumed run draws the same.

    Dropout then follows from the step alone, and neither an evaluation nor a crash changes it.
    """
    torch.manual_seed(int(np.random.SeedSequence((seed, rank, step)).generate_state(1)[0]))
