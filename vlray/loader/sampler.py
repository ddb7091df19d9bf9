"""Order of the examples in an epoch, and its division among workers.

The order depends only on the examples, the seed and the epoch. It is divided into global batches,
and each worker takes a slice of each global batch. The position in an epoch is the number of
examples used so far, which does not depend on the number of workers.

Shapes: B: examples in a batch of one worker; N: examples of an epoch; M: examples of the corpus.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt32

from vlray.tasks.corpus import Mix

WINDOW = 16
"""Global batches among which examples are sorted by length; few enough to keep the order random."""

LoaderState = dict[str, Any]
"""Position in an epoch, as a dict of plain Python types; all workers have the same."""


@dataclass(frozen=True, eq=False)
class Step:
    """Description of one worker's batch before it is read.

    Attributes:
        indices: Indices of the examples; empty if the last global batch has too few examples for
            this worker.
        key: Random seed for the batch, different for each batch.
        state: State of the sampler after this batch.
    """

    indices: Int64[np.ndarray, B]
    key: tuple[int, ...]
    state: LoaderState


@dataclass(frozen=True)
class Part:
    """Part of the corpus: ``size`` consecutive examples from index ``start``.

    Only examples with the same ``kind`` (region output and images per example) can share a batch.
    """

    start: int
    size: int
    weight: float = 1.0
    kind: int = 0


class Sampler:
    """Yields the remaining steps of an epoch for one worker."""

    def __init__(
        self,
        parts: Sequence[Part],
        batch_size: int,
        *,
        mix: Mix = "size",
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool | None = None,
        lengths: Int64[np.ndarray, M] | None = None,
        rank: int = 0,
        world: int = 1,
        global_batch: int | None = None,
    ) -> None:
        """Compute the number of examples of each part in an epoch.

        Args:
            parts: Parts of the corpus.
            batch_size: Examples per batch and worker.
            mix: How the parts are mixed; see `CorpusSpec`. No effect without ``shuffle``.
            seed: Random seed for the order.
            shuffle: True for training: a new order each epoch. False: each example once, in order.
            drop_last: Leave out the last examples if they do not fill a global batch, so that every
                batch is full on all workers. None: the value of ``shuffle``.
            lengths: Length of the text of each example. Not None: with ``shuffle``, examples of
                similar lengths share a batch, which leaves less padding.
            rank: Index of this worker, from 0.
            world: Number of workers.
            global_batch: Examples per batch of all workers together, which may not be divisible by
                ``world``. None: ``batch_size`` times ``world``.

        Raises:
            ValueError: A number is out of range, or an epoch has no step.
        """
        if batch_size < 1 or not 0 <= rank < world:
            raise ValueError(
                f"batch_size={batch_size}, rank={rank}, world={world}; pass a batch size of 1 or "
                "more, and a rank from 0 to world - 1"
            )
        self.parts, self.mix, self.seed = tuple(parts), mix, seed
        self.batch_size, self.shuffle, self.rank, self.world = batch_size, shuffle, rank, world
        self.global_batch = global_batch or batch_size * world
        self.drop_last = shuffle if drop_last is None else drop_last
        self._lengths = lengths if shuffle else None
        counts = _counts(self.parts, mix if shuffle else "size")
        kinds = max((part.kind for part in self.parts), default=0) + 1
        self._counts = counts
        self._totals = [
            sum(n for n, part in zip(counts, self.parts, strict=True) if part.kind == kind)
            for kind in range(kinds)
        ]
        self._orders: tuple[int, list[UInt32[np.ndarray, N]]] | None = None
        self.epoch = 0
        self._used = [0] * kinds
        if self.drop_last:
            refuse_no_step(len(self), sum(self._totals), batch_size, world)

    def __len__(self) -> int:
        """Return the number of steps per worker in a whole epoch."""
        return sum(self._steps(total) for total in self._totals)

    def __iter__(self) -> Iterator[Step]:
        """Iterate over the remaining steps of this epoch; the sampler keeps its position."""
        epoch, used = self.epoch, list(self._used)
        orders = self._order(epoch)
        while True:
            left = [self._steps(n - u) for n, u in zip(self._totals, used, strict=True)]
            if not any(left):
                return
            position = sum(used)
            kind = next_kind(left, (self.seed, epoch, position) if self.shuffle else None)
            take = min(self.global_batch, self._totals[kind] - used[kind])
            # The workers' slices differ by at most one example in length.
            low, high = (take * (self.rank + i) // self.world for i in (0, 1))
            indices = orders[kind][used[kind] + low : used[kind] + high].astype(np.int64)
            used[kind] += take
            # The position in the epoch makes the seed of each batch unique.
            yield Step(indices, (self.seed, epoch, position + low), self._state(epoch, used))

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of another epoch; the current epoch keeps its position."""
        if epoch != self.epoch:
            self.epoch, self._used = epoch, [0] * len(self._used)

    def state_dict(self) -> LoaderState:
        """Return the position in the epoch, as a dict of plain Python types.

        All workers have the same state.
        """
        return self._state(self.epoch, self._used)

    def load_state_dict(self, state: LoaderState) -> None:
        """Continue from the state of another run.

        The number of workers and the batch size may differ between the runs.

        Raises:
            ValueError: The other run had different examples, a different seed, ``shuffle`` or mix.
        """
        expected = self.state_dict()
        for name in ("examples", "seed", "shuffle", "mix"):
            if state.get(name) != expected[name]:
                raise ValueError(
                    f"the state is of a loader with {name} {state.get(name)}, but this loader has "
                    f"{expected[name]}; open the loader as that run did, or start a new epoch"
                )
        self.epoch, self._used = int(state["epoch"]), [int(used) for used in state["used"]]

    def advance(self, step: Step) -> None:
        """Move the position to the end of a step."""
        self.epoch, self._used = step.state["epoch"], step.state["used"]

    def _state(self, epoch: int, used: list[int]) -> LoaderState:
        return {
            "epoch": epoch,
            "used": list(used),
            "seed": self.seed,
            "shuffle": self.shuffle,
            "mix": self.mix,
            "examples": list(self._totals),
        }

    def _steps(self, examples: int) -> int:
        whole, rest = divmod(examples, self.global_batch)
        return whole + bool(rest and not self.drop_last)

    def _order(self, epoch: int) -> list[UInt32[np.ndarray, N]]:
        """Return the order of the examples of each kind; the last computed epoch is cached."""
        if self._orders is None or self._orders[0] != epoch:
            orders = [self._order_of(kind, epoch) for kind in range(len(self._totals))]
            if self._lengths is not None:
                size = self.global_batch
                rng = np.random.default_rng((self.seed, epoch, len(orders) + len(self.parts)))
                orders = [_by_length(order, self._lengths[order], size, rng) for order in orders]
            self._orders = (epoch, orders)
        return self._orders[1]

    def _order_of(self, kind: int, epoch: int) -> UInt32[np.ndarray, N]:
        """Compute the order of the examples of one kind."""
        pieces = []
        for number, (part, count) in enumerate(zip(self.parts, self._counts, strict=True)):
            if part.kind != kind:
                continue
            # A separate generator keeps the order of each part independent of the other parts.
            rng = np.random.default_rng((self.seed, epoch, number))
            pieces.append(_draw(part, count, rng if self.shuffle else None))
        if not any(map(len, pieces)):
            return np.zeros(0, np.uint32)
        if self.shuffle and self.mix == "round-robin":
            # All non-empty pieces have the same length, so stacking makes the parts alternate.
            return np.stack([piece for piece in pieces if len(piece)], axis=1).reshape(-1)
        order = np.concatenate(pieces)
        if self.shuffle and len(pieces) > 1:
            # This shuffle mixes the parts; no part uses the same seed.
            np.random.default_rng((self.seed, epoch, len(self.parts) + kind)).shuffle(order)
        return order


def next_kind(left: Sequence[int], key: tuple[int, ...] | None) -> int:
    """Draw the kind of the next batch, in proportion to the remaining batches of each kind.

    Args:
        left: Remaining batches of each kind; at least one in total.
        key: Random seed that depends only on the seed, epoch and position, so that all workers draw
            the same kind and a resumed epoch continues identically. None: one kind after the other.
    """
    if key is None or len(left) == 1:
        return next(kind for kind, steps in enumerate(left) if steps)
    drawn = np.random.default_rng(key).integers(sum(left))
    return int(np.searchsorted(np.cumsum(left), drawn, side="right"))


def refuse_no_step(steps: int, examples: int, batch_size: int, world: int) -> None:
    """Raise an error if every example of an epoch is dropped.

    Raises:
        ValueError: There are examples, but no step.
    """
    if examples and not steps:
        raise ValueError(
            f"{examples} examples do not fill a single batch of {batch_size} for each of {world} "
            "workers; pass a smaller batch_size, or drop_last=False"
        )


def _counts(parts: Sequence[Part], mix: Mix) -> list[int]:
    """Return how many examples of each part an epoch contains."""
    sizes = [part.size for part in parts]
    if mix == "size":
        return sizes
    if mix == "round-robin":
        return [max(sizes) if size else 0 for size in sizes]
    weights = np.array([part.weight * bool(part.size) for part in parts])
    # An empty part has weight 0; the tiny number avoids 0 / 0 if all parts are empty.
    exact = sum(sizes) * weights / max(weights.sum(), 1e-300)
    counts = np.floor(exact).astype(np.int64)
    # Rounding down leaves a few examples unassigned; the parts with the largest remainders get
    # one more each.
    for index in np.argsort(counts - exact, kind="stable")[: sum(sizes) - int(counts.sum())]:
        counts[index] += 1
    return [int(count) for count in counts]


def _by_length(
    order: UInt32[np.ndarray, N],
    lengths: Int64[np.ndarray, N],
    batch_size: int,
    rng: np.random.Generator,
) -> UInt32[np.ndarray, N]:
    """Sort examples by length within windows of some batches, and shuffle the batches of each.

    The examples of an incomplete last batch stay the last ones of the order.
    """
    whole = len(order) // batch_size * batch_size
    pieces = []
    for start in range(0, whole, WINDOW * batch_size):
        end = min(start + WINDOW * batch_size, whole)
        by_length = np.argsort(lengths[start:end], kind="stable")
        pieces.append(rng.permutation(order[start:end][by_length].reshape(-1, batch_size)))
    return np.concatenate([*(piece.reshape(-1) for piece in pieces), order[whole:]])


def _draw(part: Part, count: int, rng: np.random.Generator | None) -> UInt32[np.ndarray, N]:
    """Draw examples from a part: whole passes, then the beginning of another pass."""
    drawn = np.empty(count, np.uint32)
    for start in range(0, count, max(part.size, 1)):
        examples = np.arange(part.start, part.start + part.size, dtype=np.uint32)
        if rng is not None:
            rng.shuffle(examples)
        drawn[start : start + part.size] = examples[: count - start]
    return drawn
