"""Iteration over the batches of one worker, with prefetching and mid-epoch resume."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from vlray.loader.dataset import RegionDataset
from vlray.loader.sampler import LoaderState, Sampler, Step

if TYPE_CHECKING:
    from vlray.loader.inputs import ModelInputs

EXAMPLES_NAMED = 8


class RegionLoader:
    """Iterates over the batches of an epoch; the next iteration is the next epoch.

    In a Ray Train worker, or if ``torch.distributed`` is initialized, the loader yields only the
    batches of this worker. After an iteration that stopped early, the next one continues with the
    rest of the epoch.

    Attributes:
        dataset: Examples and their regions.
        prefetch: Number of batches to read ahead.
        sampler: Order of the examples, and the position in the epoch.
        waited: Total seconds that the consumer has waited for batches.
    """

    def __init__(
        self,
        dataset: RegionDataset,
        batch_size: int = 32,
        *,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool | None = None,
        group_by_length: bool = False,
        rank: int | None = None,
        world: int | None = None,
        global_batch: int | None = None,
        prefetch: int = 2,
    ) -> None:
        """Open the loader.

        Args:
            dataset: Examples and their regions.
            batch_size: Examples per batch and worker.
            seed: Random seed for the order of the examples and for random draws in batches.
            shuffle: True for training: a new order each epoch, with the parts of the corpus mixed.
                False for evaluation: every example once, in the order of the files.
            drop_last: Leave out the last examples of an epoch if they do not fill a batch for every
                worker. With ``shuffle``, they differ between epochs. None: the value of
                ``shuffle``.
            group_by_length: With ``shuffle``, let texts of similar lengths share a batch.
            rank: Index of this worker. None: from Ray Train or torch.distributed, else 0.
            world: Number of workers. None: from Ray Train or torch.distributed, else 1.
            global_batch: Examples per batch of all workers together; their shares differ by at most
                one. None: ``batch_size`` times ``world``.
            prefetch: Number of batches to read ahead. 0: read each batch on demand.

        Raises:
            ValueError: Only one of ``rank`` and ``world`` is set, a number is out of range, or an
                epoch has no step.
        """
        if (rank is None) != (world is None):
            raise ValueError(f"rank={rank}, world={world}; pass both or neither")
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
            lengths=dataset.text_lengths() if group_by_length else None,
            rank=rank,
            world=world,
            global_batch=global_batch,
        )

    def __len__(self) -> int:
        """Return the number of batches per worker in a whole epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[ModelInputs]:
        """Iterate over the remaining batches of the epoch."""
        # Without prefetching, the one thread reads each batch on demand.
        pool = ThreadPoolExecutor(max(self.prefetch, 1), thread_name_prefix="vlray-loader")
        ahead: deque[tuple[Step, Future[ModelInputs]]] = deque()
        # If the last global batch is small, some workers have no examples in it.
        steps = (step for step in self.sampler if len(step.indices))
        epoch = self.sampler.epoch
        try:
            for step in steps:
                # Threads may finish in any order; the queue keeps the order of the batches.
                ahead.append((step, pool.submit(self._read, step)))
                if len(ahead) > self.prefetch:
                    yield self._next(ahead)
            while ahead:
                yield self._next(ahead)
            # Not reached if the consumer stops early, so the next iteration resumes.
            self.sampler.set_epoch(epoch + 1)
        finally:
            # At interpreter exit, shutdown would fail: modules that it uses are already unloaded.
            if not sys.is_finalizing():
                pool.shutdown(cancel_futures=True)

    def _next(self, ahead: deque[tuple[Step, Future[ModelInputs]]]) -> ModelInputs:
        step, future = ahead.popleft()
        start = time.perf_counter()
        batch = future.result()
        self.waited += time.perf_counter() - start
        # Advance before the yield: a state that is saved while the batch is in use must come
        # after the batch.
        self.sampler.advance(step)
        return batch

    def _read(self, step: Step) -> ModelInputs:
        try:
            return self.dataset[step]
        except Exception as error:
            error.add_note(f"in the batch of {_example_names(self.dataset, step)}")
            raise

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of another epoch; the current epoch keeps its position."""
        self.sampler.set_epoch(epoch)

    def state_dict(self) -> LoaderState:
        """Return the position after the last yielded batch, as a dict of plain Python types."""
        return self.sampler.state_dict() | {"corpus": str(self.dataset.corpus.spec)}

    def load_state_dict(self, state: LoaderState) -> None:
        """Continue from the state of another run.

        The number of workers and the batch size may differ between the runs.

        Raises:
            ValueError: The other run had a different corpus, examples, seed, ``shuffle`` or mix.
        """
        corpus = str(self.dataset.corpus.spec)
        if state.get("corpus") != corpus:
            raise ValueError(
                f"the state is of a loader of {state.get('corpus')}, but this loader is of "
                f"{corpus}; open the loader as that run did, or start a new epoch"
            )
        self.sampler.load_state_dict(state)


def own_share() -> tuple[int, int]:
    """Return the rank of this process and the number of workers; 0 and 1 for a single process."""
    # A worker has these modules loaded already; importing them elsewhere would take seconds.
    if "ray.train" in sys.modules:
        import ray.train

        try:
            context = ray.train.get_context()
            return context.get_world_rank(), context.get_world_size()
        except (RuntimeError, DeprecationWarning):  # not in a Ray Train worker, or in Ray Tune
            pass
    if "torch.distributed" in sys.modules:
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _example_names(dataset: RegionDataset, step: Step) -> str:
    """List the names of the first examples in a batch, for an error message."""
    _, corpus_indices, _ = dataset.join.locate(dataset.corpus, step.indices[:EXAMPLES_NAMED])
    parts, _ = dataset.corpus.locate(corpus_indices)
    names = [
        f"{dataset.corpus.spec.parts[part].name} {example.example_id}"
        for part, example in zip(parts, dataset.corpus.take(corpus_indices), strict=True)
    ]
    more = len(step.indices) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
