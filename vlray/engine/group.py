"""Communication between the workers of a training; a single process is a group of one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from vlray.cluster.gpus import usable_gpus
from vlray.loader.loader import own_share

T = TypeVar("T")

listener: ContextVar[Callable[[dict[str, float]], None] | None] = ContextVar(
    "listener", default=None
)
"""Function to call with the metrics of each evaluation in a training in this context, or None. A
search sets it; the call may end the training."""


@dataclass(frozen=True)
class Group:
    """This worker's rank, the number of workers, and this worker's device."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def join(cls, *, use_gpu: bool = True) -> Group:
        """Join the workers of Ray Train or torch.distributed, or form a group of one process.

        Args:
            use_gpu: Whether to use a GPU if there is one. Ignored in Ray Train, which assigns the
                device.

        Raises:
            ValueError: Ray assigned a GPU to this process, but torch cannot use it.
        """
        rank, world = own_share()
        if in_ray_train():
            from ray.train.torch import get_device

            return cls(rank, world, get_device())
        return cls(rank, world, torch.device("cuda" if use_gpu and usable_gpus() else "cpu"))

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum a tensor over all workers in place, and return it."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """Return the values of all workers, ordered by rank; every worker gets the same list."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until all workers have reached this call."""
        if self.world > 1:
            dist.barrier()


def in_ray_train() -> bool:
    """Return whether this process is a Ray Train worker."""
    # Ray Train has imported the module in its workers; elsewhere, avoid the slow import.
    if "ray.train" not in sys.modules:
        return False
    import ray.train

    try:
        ray.train.get_context().get_world_size()
    except (RuntimeError, DeprecationWarning):  # Ray raises the latter in a trial of Ray Tune
        return False
    return True
