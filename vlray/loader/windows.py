"""An epoch of a stream: windows of a few parts each, and the examples shuffled within them.

Shapes: N examples, P parts of the output, W windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, Int64, UInt32

from vlray.loader.join import Join
from vlray.loader.spans import Span
from vlray.regions.batch import RegionBatch
from vlray.regions.reading import PartIndex, read_part
from vlray.regions.schema import from_table

READ_CPUS = 0.25
READERS = 2  # parts that are read at once for one worker

READS = pa.schema([("shard", pa.int64()), ("rows", pa.list_(pa.int64()))])


@dataclass(frozen=True, eq=False)
class Epoch:
    """The order of the examples of one kind in one epoch.

    Attributes:
        order: Examples (numbers of the `Join`), window after window.
        starts: Position of each window's first example, and at the end their number.
    """

    order: UInt32[np.ndarray, N]
    starts: Int64[np.ndarray, W1]

    def windows(self, spans: Sequence[Span]) -> list[int]:
        """List the windows that spans go through, in their order."""
        found: list[int] = []
        for start, stop in spans:
            first, last = np.searchsorted(self.starts, [start, stop - 1], side="right") - 1
            # A window without examples begins where the next one does.
            found += [
                window
                for window in range(int(first), int(last) + 1)
                if self.starts[window] < self.starts[window + 1] and found[-1:] != [window]
            ]
        return found


def lay_out(
    join: Join,
    kind: tuple[str, int],
    index: PartIndex,
    images: int,
    rng: np.random.Generator | None,
) -> Epoch:
    """Order the examples: parts first, then what is in a window of them.

    An example belongs to the part of its first image.

    Args:
        join: The examples and their rows.
        kind: Which of them: their output, and images each.
        index: The parts of that output.
        images: A window has parts of at least so many images.
        rng: Shuffles the parts, and the examples of a window; None: neither.
    """
    order = np.arange(len(index.shards))
    if rng is not None:
        rng.shuffle(order)
    sizes = np.diff(index.starts)[order]
    # A window ends with the part that fills it.
    window_of_place = (np.cumsum(sizes) - sizes) // images
    window_of_part = np.empty(len(order), np.int32)
    window_of_part[order] = np.unique(window_of_place, return_inverse=True)[1]
    examples, windows = [], []
    for part, start in zip(join.parts, join.starts, strict=False):
        if part.kind == kind:
            examples.append(np.arange(start, start + len(part), dtype=np.uint32))
            windows.append(window_of_part[index.parts_of(part.rows[:, 0])])
    window: Int32[np.ndarray, N] = np.concatenate(windows)
    whole = np.concatenate(examples)[np.argsort(window, kind="stable")]
    counts = np.bincount(window, minlength=int(window_of_part.max()) + 1)
    starts = np.cumsum([0, *counts])
    if rng is not None:
        for low, high in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            rng.shuffle(whole[low:high])
    return Epoch(whole, starts)


def read_windows(
    output: str, index: PartIndex, wanted: Sequence[Int64[np.ndarray, R]]
) -> Iterator[list[RegionBatch]]:
    """Read windows in tasks of Ray, ahead of whoever iterates, each with its rows in their order.

    How far ahead is limited by Ray Data's share of the object store; blocks stay there, and what
    is yielded points to them.

    Args:
        output: The place of the output.
        index: Its parts.
        wanted: Rows of each window, sorted.
    """
    import ray.data

    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    reads = [table for rows in wanted for table in _reads(index, rows)]
    with ray.data.DataContext.current(context):
        blocks = (
            ray.data.from_arrow(reads)
            .map_batches(
                ReadRows(output),
                batch_size=None,
                batch_format="pyarrow",
                num_cpus=READ_CPUS,
                compute=ray.data.TaskPoolStrategy(size=READERS),
            )
            .iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
        )
        arriving = iter(blocks)
    try:
        for rows in wanted:
            found: list[RegionBatch] = []
            while sum(map(len, found)) < len(rows):
                found.append(from_table(next(arriving)))
            yield found
    finally:
        # The executor stops when nothing refers to the iterator any more.
        del arriving, blocks


class ReadRows:
    """Reads the rows that a table asks for; Ray may do it again after a failure."""

    def __init__(self, output: str) -> None:
        self._output = output

    def __call__(self, reads: pa.Table) -> pa.Table:
        """Read rows of parts, in the order asked for."""
        return pa.concat_tables(
            read_part(self._output, read["shard"], np.array(read["rows"], np.int64))
            for read in reads.to_pylist()
        )


def _reads(index: PartIndex, rows: Int64[np.ndarray, R]) -> Iterator[pa.Table]:
    """Divide rows by part: a table of one row for each, which becomes a task."""
    numbers = index.parts_of(rows)
    for part in np.unique(numbers).tolist():
        local = rows[numbers == part] - index.starts[part]
        yield pa.table({"shard": [index.shards[part]], "rows": [local]}, schema=READS)
