"""In which order examples come, and which of them each worker gets.

The order follows from the seed and the epoch alone. It is cut into global batches, of each of which
every worker takes its slice; where an epoch stands is how much of the order has been used, which
does not depend on the number of workers.

Shapes: B examples of one worker's batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt32

from vlray.tasks.corpus import Mix


@dataclass(frozen=True, eq=False)
class Step:
    """A batch of one worker, before it is read.

    Attributes:
        indices: Of the examples; empty where the last global batch is too small for all workers.
        key: Seeds what is drawn at random in the batch: no other batch has the same.
        state: Of the sampler once this batch was used.
    """

    indices: Int64[np.ndarray, B]
    key: tuple[int, ...]
    state: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A part of the corpus: its examples are ``start`` and those after it.

    ``kind`` numbers what may be together in a batch (one region output, images an example).
    """

    start: int
    size: int
    weight: float = 1.0
    kind: int = 0


class Sampler:
    """Steps of one worker, from where the epoch stands to its end."""

    def __init__(
        self,
        parts: Sequence[Part],
        batch_size: int,
        *,
        mix: Mix = "size",
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Lay out the epochs.

        Args:
            parts: Of the corpus.
            batch_size: Examples of one worker's batch.
            mix: How the parts are mixed; see `CorpusSpec`. Without effect unless ``shuffle``.
            seed: Of the order.
            shuffle: Training: another order each epoch. Without: each example once, in order.
            drop_last: Leave out what does not fill a global batch, so that all workers have as
                many steps. Not given: as ``shuffle``.
            rank: Number of this worker, from 0.
            world: Number of workers.

        Raises:
            ValueError: A number is out of range, or an epoch has no step.
        """
        if batch_size < 1 or not 0 <= rank < world:
            raise ValueError(
                f"batch_size={batch_size}, rank={rank}, world={world}; give a batch size of 1 or "
                "more, and a rank from 0 to world - 1"
            )
        self.parts, self.mix, self.seed = tuple(parts), mix, seed
        self.batch_size, self.shuffle, self.rank, self.world = batch_size, shuffle, rank, world
        self.drop_last = shuffle if drop_last is None else drop_last
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
        """Give the number of steps of a whole epoch."""
        return sum(self._steps(total) for total in self._totals)

    def __iter__(self) -> Iterator[Step]:
        """Give the steps that are left of this epoch; where the epoch stands is not changed."""
        epoch, used = self.epoch, list(self._used)
        orders = self._order(epoch)
        while True:
            left = [self._steps(n - u) for n, u in zip(self._totals, used, strict=True)]
            if not any(left):
                return
            position = sum(used)
            kind = next_kind(left, (self.seed, epoch, position) if self.shuffle else None)
            take = min(self.batch_size * self.world, self._totals[kind] - used[kind])
            low, high = (take * (self.rank + i) // self.world for i in (0, 1))
            indices = orders[kind][used[kind] + low : used[kind] + high].astype(np.int64)
            used[kind] += take
            yield Step(indices, (self.seed, epoch, position + low), self._state(epoch, used))

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; in the one that is under way it changes nothing."""
        if epoch != self.epoch:
            self.epoch, self._used = epoch, [0] * len(self._used)

    def state_dict(self) -> dict[str, Any]:
        """Say where the epoch stands, in plain types; the same on every worker."""
        return self._state(self.epoch, self._used)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where another run stood; the number of workers and batch size may be others.

        Raises:
            ValueError: That run had other examples, another mix or another seed.
        """
        own = self.state_dict()
        for name in ("examples", "seed", "shuffle", "mix"):
            if state.get(name) != own[name]:
                raise ValueError(
                    f"the state is of a loader with {name} {state.get(name)}, but here it is "
                    f"{own[name]}; open the loader as that run did, or start a new epoch"
                )
        self.epoch, self._used = int(state["epoch"]), [int(used) for used in state["used"]]

    def advance(self, step: Step) -> None:
        """Note that a step was used."""
        self.epoch, self._used = step.state["epoch"], step.state["used"]

    def _state(self, epoch: int, used: list[int]) -> dict[str, Any]:
        return {
            "epoch": epoch,
            "used": list(used),
            "seed": self.seed,
            "shuffle": self.shuffle,
            "mix": self.mix,
            "examples": list(self._totals),
        }

    def _steps(self, examples: int) -> int:
        whole, rest = divmod(examples, self.batch_size * self.world)
        return whole + bool(rest and not self.drop_last)

    def _order(self, epoch: int) -> list[UInt32[np.ndarray, N]]:
        """Give the order of each kind's examples; the epoch's is kept."""
        if self._orders is None or self._orders[0] != epoch:
            orders = [self._order_of(kind, epoch) for kind in range(len(self._totals))]
            self._orders = (epoch, orders)
        return self._orders[1]

    def _order_of(self, kind: int, epoch: int) -> UInt32[np.ndarray, N]:
        pieces = []
        for number, (part, count) in enumerate(zip(self.parts, self._counts, strict=True)):
            if part.kind != kind:
                continue
            rng = np.random.default_rng((self.seed, epoch, number))
            pieces.append(_draw(part, count, rng if self.shuffle else None))
        if not pieces:
            return np.zeros(0, np.uint32)
        if self.shuffle and self.mix == "round-robin":
            return np.stack(pieces, axis=1).reshape(-1)
        whole = np.concatenate(pieces)
        if self.shuffle and len(pieces) > 1:
            np.random.default_rng((self.seed, epoch, len(self.parts) + kind)).shuffle(whole)
        return whole


def next_kind(left: Sequence[int], key: tuple[int, ...] | None) -> int:
    """Draw the kind of the next batch in proportion to the batches that are left of each.

    Args:
        left: Batches of each kind; one at least.
        key: Seed, epoch and position, and nothing else: a resumed epoch goes on the same, and all
            workers draw the same. None: one kind after the other.
    """
    if key is None or len(left) == 1:
        return next(kind for kind, steps in enumerate(left) if steps)
    drawn = np.random.default_rng(key).integers(sum(left))
    return int(np.searchsorted(np.cumsum(left), drawn, side="right"))


def refuse_no_step(steps: int, examples: int, batch_size: int, world: int) -> None:
    """Refuse an epoch that has examples, but leaves all of them out.

    Raises:
        ValueError: It does.
    """
    if examples and not steps:
        raise ValueError(
            f"{examples} examples do not fill a single batch of {batch_size} for each of {world} "
            "workers; give a smaller batch_size, or drop_last=False"
        )


def _counts(parts: Sequence[Part], mix: Mix) -> list[int]:
    """Say how many examples of each part an epoch has."""
    sizes = [part.size for part in parts]
    if mix == "size":
        return sizes
    if mix == "round-robin":
        return [max(sizes) if size else 0 for size in sizes]
    weights = np.array([part.weight * bool(part.size) for part in parts])
    exact = sum(sizes) * weights / max(weights.sum(), 1e-300)
    counts = np.floor(exact).astype(np.int64)
    # The examples that rounding left go to the largest remainders, so that the sum is right.
    for place in np.argsort(counts - exact, kind="stable")[: sum(sizes) - int(counts.sum())]:
        counts[place] += 1
    return [int(count) for count in counts]


def _draw(part: Part, count: int, rng: np.random.Generator | None) -> UInt32[np.ndarray, N]:
    """Draw examples of a part: whole passes first, the rest from one more."""
    drawn = np.empty(count, np.uint32)
    for start in range(0, count, max(part.size, 1)):
        once = np.arange(part.start, part.start + part.size, dtype=np.uint32)
        if rng is not None:
            rng.shuffle(once)
        drawn[start : start + part.size] = once[: count - start]
    return drawn
