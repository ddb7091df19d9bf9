"""Batches for one worker, read ahead in the background, resumable in the middle of an epoch."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from vlray.loader.dataset import RegionDataset
from vlray.loader.sampler import Sampler, Step

if TYPE_CHECKING:
    from vlray.loader.inputs import ModelInputs

EXAMPLES_NAMED = 8


class RegionLoader:
    """Iterates over the batches of an epoch; the next iteration is the next epoch.

    In a Ray Train worker (or where ``torch.distributed`` is initialized) it gives that worker's
    share. What was not used of an epoch when the iteration was left comes first in the next one.

    Attributes:
        sampler: The order of the examples, and where the epoch stands.
        waited: Seconds for which whoever iterates had to wait for batches.
    """

    def __init__(
        self,
        dataset: RegionDataset,
        batch_size: int = 32,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool | None = None,
        rank: int | None = None,
        world: int | None = None,
        prefetch: int = 2,
    ) -> None:
        """Open the loader.

        Args:
            dataset: The examples and their regions.
            batch_size: Examples of one worker's batch.
            seed: Of the order, and of what is drawn at random in the batches.
            shuffle: Training: all examples in another order each epoch. Without (evaluation):
                every example once, in the order of the files.
            drop_last: Leave out what does not fill a batch for every worker, other examples each
                epoch. Not given: as ``shuffle``. An evaluation leaves out and repeats nothing.
            rank: Number of this worker. Not given: what Ray Train or torch.distributed say, or 0.
            world: Number of workers. Not given: likewise, or 1.
            prefetch: Batches that are read ahead; 0: each is read when it is asked for.
        """
        if (rank is None) != (world is None):
            raise ValueError(f"rank={rank}, world={world}; give both or neither")
        if rank is None or world is None:
            rank, world = own_share()
        self.dataset, self.prefetch, self.waited = dataset, prefetch, 0.0
        self.sampler = Sampler(
            dataset.parts(),
            batch_size,
            mix=dataset.corpus.spec.mix,
            seed=seed,
            shuffle=shuffle,
            drop_last=drop_last,
            rank=rank,
            world=world,
        )

    def __len__(self) -> int:
        """Give the number of batches of a whole epoch, on every worker."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[ModelInputs]:
        """Give the batches that are left of the epoch."""
        pool = ThreadPoolExecutor(max(self.prefetch, 1), thread_name_prefix="vlray-loader")
        ahead: deque[tuple[Step, Future[ModelInputs]]] = deque()
        steps = (step for step in self.sampler if len(step.indices))
        epoch = self.sampler.epoch
        try:
            for step in steps:
                ahead.append((step, pool.submit(self._read, step)))
                if len(ahead) > self.prefetch:
                    yield self._next(ahead)
            while ahead:
                yield self._next(ahead)
            self.sampler.set_epoch(epoch + 1)
        finally:
            # At the interpreter's end, when a loader is dropped half-way, queue is gone already.
            if not sys.is_finalizing():
                pool.shutdown(cancel_futures=True)

    def _next(self, ahead: deque[tuple[Step, Future[ModelInputs]]]) -> ModelInputs:
        step, future = ahead.popleft()
        start = time.perf_counter()
        batch = future.result()
        self.waited += time.perf_counter() - start
        # Before it is handed over: what is saved while the batch is in use is after the batch.
        self.sampler.advance(step)
        return batch

    def _read(self, step: Step) -> ModelInputs:
        try:
            return self.dataset[step]
        except Exception as error:
            error.add_note(f"in the batch of {_named(self.dataset, step)}")
            raise

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; in the one that is under way it changes nothing."""
        self.sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Say where the epoch stands: after the batch that was given last. Plain types."""
        return self.sampler.state_dict() | {"corpus": str(self.dataset.corpus.spec)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another run stood, with as many workers or another number.

        Raises:
            ValueError: That run had another corpus, other examples, another mix or another seed.
        """
        own = str(self.dataset.corpus.spec)
        if state.get("corpus") != own:
            raise ValueError(
                f"the state is of a loader of {state.get('corpus')}, but here it is {own}; open "
                "the loader as that run did, or start a new epoch"
            )
        self.sampler.load_state_dict(state)


def own_share() -> tuple[int, int]:
    """Give the rank of this process and the number of workers: 0 and 1 where it is alone."""
    if "ray.train" in sys.modules:
        import ray.train

        try:
            context = ray.train.get_context()
            return context.get_world_rank(), context.get_world_size()
        except (RuntimeError, DeprecationWarning):  # not in a worker of Ray Train, or in Ray Tune
            pass
    if "torch.distributed" in sys.modules:
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _named(dataset: RegionDataset, step: Step) -> str:
    _, places, _ = dataset.join.locate(dataset.corpus, step.indices[:EXAMPLES_NAMED])
    parts, _ = dataset.corpus.locate(places)
    named = [
        f"{dataset.corpus.spec.parts[part].name} {example.example_id}"
        for part, example in zip(parts, dataset.corpus.take(places), strict=True)
    ]
    more = len(step.indices) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
