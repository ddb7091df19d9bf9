"""The workers of a training as one: sums, what each of them has, one alone as well."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from vlray.loader.loader import own_share

T = TypeVar("T")

listener: ContextVar[Callable[[dict[str, float]], None] | None] = ContextVar(
    "listener", default=None
)
"""Called with each evaluation of a training in this thread."""


@dataclass(frozen=True)
class Group:
    """This worker among all of them."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def join(cls, *, use_gpu: bool = True) -> Group:
        """Find out which worker this is: Ray Train's, torch.distributed's, or the only one.

        Args:
            use_gpu: Whether a GPU may be computed on where there is one.
        """
        rank, world = own_share()
        if in_ray_train():
            from ray.train.torch import get_device

            return cls(rank, world, get_device())
        return cls(rank, world, torch.device("cuda" if use_gpu and has_gpu() else "cpu"))

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum a tensor of all workers, in its place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """Give what every worker has, in their order, to all of them."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def barrier(self) -> None:
        """Wait until all workers have come here."""
        if self.world > 1:
            dist.barrier()

    def report(self, metrics: dict[str, float]) -> None:
        """Tell Ray Train, and with it the dashboard, how it goes; all workers have to.

        And tell `listener`, which a search sets: it may end the training here.
        """
        if in_ray_train():
            import ray.train

            ray.train.report(metrics)
        if listen := listener.get():
            listen(metrics)


def has_gpu() -> bool:
    """Tell whether torch sees a GPU."""
    return torch.cuda.is_available()


def in_ray_train() -> bool:
    """Tell whether this process is a worker of Ray Train."""
    if "ray.train" not in sys.modules:
        return False
    import ray.train

    try:
        ray.train.get_context().get_world_size()
    except (RuntimeError, DeprecationWarning):  # the latter in a trial of Ray Tune
        return False
    return True
