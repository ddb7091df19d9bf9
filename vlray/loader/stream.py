"""Batches of regions that are streamed from where they are: for outputs no local disk holds."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from vlray.config.data import DataSection
from vlray.config.loader import LoaderSection
from vlray.loader import spans
from vlray.loader.boxes import check_store
from vlray.loader.collate import Collate
from vlray.loader.dataset import Assembly, warn_of_shared_ids
from vlray.loader.join import join
from vlray.loader.loader import own_share
from vlray.loader.open import open_named
from vlray.loader.sampler import next_kind, refuse_no_step
from vlray.loader.spans import Span
from vlray.loader.windows import Epoch, lay_out, read_windows
from vlray.regions.reading import PartIndex, open_parts
from vlray.regions.window import RegionWindow
from vlray.tasks.corpus import Corpus, CorpusSpec
from vlray.tasks.labels import LabelSpace
from vlray.tasks.problems import OnBad

if TYPE_CHECKING:
    from vlray.loader.inputs import ModelInputs


class RegionStream:
    """Iterates over a worker's batches of an epoch as `RegionLoader` does, without a cache.

    Ray Data reads windows of a few parts each, in another order every epoch; examples are shuffled
    within their window, which is less than a global shuffle. Every worker goes through windows of
    its own, so that all of them together read the output once an epoch.

    Attributes:
        epoch: The one that is under way.
        waited: Seconds for which whoever iterates had to wait for regions.
    """

    def __init__(
        self,
        corpus: Corpus,
        outputs: Mapping[str, PartIndex],
        collate: Collate,
        batch_size: int = 32,
        *,
        on_bad: OnBad = "skip",
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool | None = None,
        rank: int | None = None,
        world: int | None = None,
        window: int = 2048,
    ) -> None:
        """Find the part of every example's images.

        Args:
            corpus: The examples, mixed by size.
            outputs: The parts of each region output, by the names that the corpus gives.
            collate: Makes the batches.
            batch_size: Examples of one worker's batch.
            on_bad: Whether examples with an image that has no regions are left out, or stop.
            seed: Of the order, and of what is drawn in the batches.
            shuffle: Training. Without: every example once, in the order of the parts.
            drop_last: As for `RegionLoader`.
            rank: Number of this worker; not given: what Ray Train says.
            world: Number of workers; not given: likewise.
            window: Images that are in memory together: 300 MB at 36 x 2048 float16 for 2,048.

        Raises:
            ValueError: The corpus is mixed by weight or turns, or an epoch has no step.
            DataError: Images have no regions, and ``on_bad`` is stop.
        """
        if corpus.spec.mix != "size":
            raise ValueError(
                f"a stream gives every example once, but the corpus has mix: {corpus.spec.mix}; "
                "use RegionLoader, or mix: size"
            )
        if rank is None or world is None:
            rank, world = own_share()
        self.outputs, self.window, self.seed, self.shuffle = dict(outputs), window, seed, shuffle
        self.batch_size, self.rank, self.world = batch_size, rank, world
        self.drop_last = shuffle if drop_last is None else drop_last
        self.join = join(corpus, self.outputs, on_bad)
        warn_of_shared_ids(self.join, corpus)
        self._assembly = Assembly(corpus, collate)
        self._kinds = self.join.kinds
        self._totals = [
            sum(len(part) for part in self.join.parts if part.kind == kind) for kind in self._kinds
        ]
        self.epoch, self.waited = 0, 0.0
        self._left = self._whole()
        if self.drop_last:
            refuse_no_step(len(self), sum(self._totals), batch_size, world)

    def __len__(self) -> int:
        """Give the number of batches of a whole epoch."""
        return sum(map(self._steps, self._whole()))

    def __iter__(self) -> Iterator[ModelInputs]:
        """Give the batches that are left of the epoch; the next iteration is the next epoch."""
        epoch, begun = self.epoch, [list(left) for left in self._left]
        steps, done = [self._steps(left) for left in begun], [0] * len(begun)
        sources = [self._batches(epoch, kind, left) for kind, left in enumerate(begun)]
        try:
            while any(steps):
                position = sum(map(spans.length, self._left))
                kind = next_kind(steps, (self.seed, epoch, position) if self.shuffle else None)
                steps[kind] -= 1
                done[kind] += 1
                batch = next(sources[kind], None)
                used = done[kind] * self.batch_size
                self._left[kind] = spans.after(begun[kind], self.world, used)
                if batch is not None:
                    yield batch
            self.set_epoch(epoch + 1)
        finally:
            for source in sources:
                source.close()

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; in the one that is under way it changes nothing."""
        if epoch != self.epoch:
            self.epoch, self._left = epoch, self._whole()

    def state_dict(self) -> dict[str, Any]:
        """Say what is left of the epoch, in plain types; the same on every worker."""
        left = [[list(span) for span in kind] for kind in self._left]
        return {"epoch": self.epoch, "left": left, **self._fixed()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another run stood, with as many workers or another number.

        Raises:
            ValueError: That run had other examples, another seed or another window.
        """
        for name, own in self._fixed().items():
            if state.get(name) != own:
                raise ValueError(
                    f"the state is of a stream with {name} {state.get(name)}, but here it is "
                    f"{own}; open the stream as that run did, or start a new epoch"
                )
        self.epoch = int(state["epoch"])
        self._left = [[(int(a), int(b)) for a, b in kind] for kind in state["left"]]

    def _fixed(self) -> dict[str, Any]:
        return {
            "corpus": str(self._assembly.corpus.spec),
            "seed": self.seed,
            "shuffle": self.shuffle,
            "window": self.window,
            "examples": list(self._totals),
        }

    def _whole(self) -> list[list[Span]]:
        return [[(0, total)] if total else [] for total in self._totals]

    def _steps(self, left: list[Span]) -> int:
        """Count the steps of the worker that has the most of what is left."""
        each, more = divmod(spans.length(left), self.world)
        if self.drop_last:
            return each // self.batch_size
        return -(-(each + bool(more)) // self.batch_size)

    def _batches(self, epoch: int, kind: int, left: list[Span]) -> Generator[ModelInputs]:
        """Give this worker's batches of one kind."""
        mine = spans.shares(left, self.world)[self.rank]
        if not mine:
            return
        name = self._kinds[kind][0]
        rng = np.random.default_rng((self.seed, epoch, kind)) if self.shuffle else None
        laid = lay_out(self.join, self._kinds[kind], self.outputs[name], self.window, rng)
        numbers = laid.windows(mine)
        wanted = [self._rows(laid, number) for number in numbers]
        arriving = read_windows(self.outputs[name].output, self.outputs[name], wanted)
        held: dict[int, Any] = {}
        place = 0
        for low in range(0, spans.length(mine), self.batch_size):
            taken = spans.cut(mine, low, low + self.batch_size)
            needed = laid.windows(taken)
            start = time.perf_counter()
            held = {number: held[number] for number in needed if number in held}
            for number in needed:
                if number not in held:
                    assert number == numbers[place]
                    held[number] = (wanted[place], next(arriving))
                    self._check(RegionWindow(held[number][1]))
                    place += 1
            self.waited += time.perf_counter() - start
            yield self._batch(laid, taken, [held[n] for n in needed], (self.seed, epoch, kind))

    def _rows(self, laid: Epoch, number: int) -> Int64[np.ndarray, R]:
        """List the rows that all examples of a window need, whichever worker has them."""
        examples = laid.order[laid.starts[number] : laid.starts[number + 1]]
        return np.unique(self.join.locate(self._assembly.corpus, examples)[2])

    def _batch(
        self,
        laid: Epoch,
        taken: list[Span],
        held: list[tuple[Int64[np.ndarray, R], list[Any]]],
        key: tuple[int, ...],
    ) -> ModelInputs:
        (name, _), places, rows = self.join.locate(
            self._assembly.corpus, laid.order[spans.positions(taken)]
        )
        window = RegionWindow([batch for _, batches in held for batch in batches])
        local = np.full(rows.shape, -1)
        before = 0
        for known, _ in held:
            at = np.minimum(np.searchsorted(known, rows), len(known) - 1)
            local = np.where((local < 0) & (known[at] == rows), before + at, local)
            before += len(known)
        rng = np.random.default_rng((*key, taken[0][0]))
        return self._assembly.batch(places, local, window, name, rng)

    def _check(self, window: RegionWindow) -> None:
        if self._assembly.collate.options.boxes != "none":
            check_store(window)


def open_stream(
    corpus: CorpusSpec | str,
    regions: str | Path | Mapping[str, str | Path],
    batch_size: int = 32,
    *,
    options: LoaderSection | None = None,
    data: DataSection | None = None,
    label_space: LabelSpace | None = None,
    **how: Any,
) -> RegionStream:
    """Open a stream as `vlray.open_loader` opens a loader; Ray is started if it does not run.

    Args:
        corpus: As for `vlray.open_loader`.
        regions: The output that has the images, or several by name; local or in object storage.
        batch_size: Examples of one worker's batch.
        options: Boxes, tokens, masks: what the model wants.
        data: Where annotations are; not given: as the settings say.
        label_space: The labels; not given: those of the corpus.
        how: The other arguments of `RegionStream`.
    """
    examples, outputs, data = open_named(corpus, regions, data, label_space)
    indexes = {name: open_parts(place) for name, place in outputs.items()}
    return RegionStream(examples, indexes, Collate(options), batch_size, on_bad=data.on_bad, **how)
