"""Join of examples with regions: for every image, its row in a region output.

Shapes: N: examples or images; I: images per example (2 for NLVR2); B: selected examples; M:
examples without regions; P1: parts of the corpus, plus 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int32, Int64, UInt32

from vlray.tasks.corpus import Corpus, report
from vlray.tasks.examples import ExampleTable
from vlray.tasks.problems import EXAMPLES_SHOWN, OnBad, Problems


class RowIndex(Protocol):
    """Region output whose rows can be looked up by image id."""

    def rows(self, image_ids: pa.ChunkedArray, /) -> Int64[np.ndarray, N]:
        """Return the row of each image, or -1 if the output does not contain the image."""
        ...


F = TypeVar("F", bound=RowIndex)


@dataclass(frozen=True, eq=False)
class JoinedPart:
    """Usable examples of one part of the corpus.

    Attributes:
        regions: Name of the region output.
        examples: Index of each usable example in the table of the part; None: all are usable.
        rows: For each usable example, the rows of its images in the region output.
    """

    regions: str
    examples: UInt32[np.ndarray, N] | None
    rows: Int32[np.ndarray, "N I"]

    def __len__(self) -> int:
        """Return the number of usable examples."""
        return len(self.rows)

    @property
    def kind(self) -> tuple[str, int]:
        """Region output and images per example, which must be equal within a batch."""
        return self.regions, self.rows.shape[1]


@dataclass(frozen=True, eq=False)
class Join:
    """Usable examples of a corpus, numbered consecutively across the parts.

    Attributes:
        parts: Usable examples of each part.
        starts: Number of the first example of each part, then the total number of examples.
    """

    parts: tuple[JoinedPart, ...]
    starts: Int64[np.ndarray, P1] = field(init=False)

    def __post_init__(self) -> None:
        # The dataclass is frozen, so a plain assignment would fail.
        object.__setattr__(self, "starts", np.cumsum([0, *map(len, self.parts)]))

    def __len__(self) -> int:
        """Return the number of usable examples."""
        return int(self.starts[-1])

    @property
    def kinds(self) -> list[tuple[str, int]]:
        """Distinct kinds of batches, in the order of the parts; see `JoinedPart.kind`."""
        return list(dict.fromkeys(part.kind for part in self.parts))

    def corpus_indices(self, corpus: Corpus) -> Int64[np.ndarray, N]:
        """Return the corpus index of every usable example."""
        # ``starts`` has one more element than ``parts``.
        indices = [
            (np.arange(len(part)) if part.examples is None else part.examples) + start
            for part, start in zip(self.parts, corpus.starts, strict=False)
        ]
        return np.concatenate(indices).astype(np.int64)

    def subset(self, indices: Int64[np.ndarray, B]) -> Join:
        """Return a join with some of the usable examples, in their original order."""
        selected = np.zeros(len(self), bool)
        selected[indices] = True
        parts = []
        for part, start in zip(self.parts, self.starts, strict=False):
            local = np.flatnonzero(selected[start : start + len(part)]).astype(np.uint32)
            examples = local if part.examples is None else part.examples[local]
            parts.append(JoinedPart(part.regions, examples, part.rows[local]))
        return Join(tuple(parts))

    def locate(
        self, corpus: Corpus, indices: Int64[np.ndarray, B]
    ) -> tuple[tuple[str, int], Int64[np.ndarray, B], Int64[np.ndarray, "B I"]]:
        """Look up the examples of a batch.

        Returns:
            The kind of the batch, the corpus index of each example, and the rows of its images in
            the region output.

        Raises:
            ValueError: The examples are of different kinds.
        """
        indices = np.asarray(indices, np.int64)
        # Index of the part that contains each example.
        owners = np.searchsorted(self.starts, indices, side="right") - 1
        present = np.unique(owners)
        kinds = {self.parts[part].kind for part in present.tolist()}
        if len(kinds) != 1:
            descriptions = " and ".join(f"{n} images each, regions {r!r}" for r, n in sorted(kinds))
            raise ValueError(
                f"the examples have {descriptions}, which cannot be in one batch; use the batches "
                "of RegionLoader"
            )
        kind = kinds.pop()
        corpus_indices = np.empty(len(indices), np.int64)
        rows = np.empty((len(indices), kind[1]), np.int64)
        for number in present.tolist():
            part, members = self.parts[number], owners == number
            local = indices[members] - self.starts[number]
            rows[members] = part.rows[local]
            examples = local if part.examples is None else part.examples[local]
            corpus_indices[members] = examples + corpus.starts[number]
        return kind, corpus_indices, rows


def join(corpus: Corpus, outputs: Mapping[str, F], on_bad: OnBad) -> Join:
    """Look up the images of all examples, and leave out examples with missing images.

    Args:
        corpus: The examples.
        outputs: Region outputs, keyed by name.
        on_bad: ``stop``: raise an error if images have no regions.

    Raises:
        ValueError: A part of the corpus names no region output or an unknown one, none of its
            examples has regions, or its examples differ in the number of images.
        DataError: Images have no regions, and ``on_bad`` is stop.
    """
    problems: dict[str, Problems] = {}
    joined_parts: list[JoinedPart] = []
    for part, table in zip(corpus.spec.parts, corpus.tables, strict=True):
        name = choose(part.regions, part.name, outputs)
        problems[part.name] = Problems()
        joined_part = _join_part(name, table, outputs[name], problems[part.name])
        if not len(joined_part) and len(table):
            raise ValueError(
                f"none of the {len(table):,} examples of {part.name} has regions"
                f"{f' in {name}' if name else ''}: {'; '.join(problems[part.name].lines())}. "
                "Were the regions extracted from these images, with the --id-rule of the dataset "
                f"({table.spec.id_rule})?"
            )
        joined_parts.append(joined_part)
    report(problems, on_bad)
    return Join(tuple(joined_parts))


def choose(name: str, part: str, outputs: Mapping[str, F]) -> str:
    """Return the name of the region output that a part of the corpus uses.

    Args:
        name: Name in the corpus; it may be empty if there is only one output.
        part: Name of the part, for the error message.
        outputs: Region outputs, keyed by name.

    Raises:
        ValueError: The name is unknown, or is empty although there are several outputs.
    """
    if not name and len(outputs) == 1:
        return next(iter(outputs))
    if name not in outputs:
        available = ", ".join(sorted(outputs)) or "none"
        problem = f"needs the regions {name!r}" if name else "does not name its regions"
        raise ValueError(
            f"{part} {problem}; available are {available}. Name one in the corpus: {part}@NAME"
        )
    return name


def _join_part(name: str, table: ExampleTable, output: RowIndex, problems: Problems) -> JoinedPart:
    """Look up all images of a part at once, because each look-up scans all ids of the output."""
    column = table.column("image_ids")
    num_images = _num_images(table, column)
    # flatten() respects the offsets of a sliced chunk; values would not.
    image_ids = pa.chunked_array([chunk.flatten() for chunk in column.chunks], pa.string())
    # int32 halves the memory, which matters for millions of images.
    rows = output.rows(image_ids).astype(np.int32).reshape(-1, num_images)
    # An example is usable only if all its images have regions.
    usable = (rows >= 0).all(axis=1)
    if usable.all():
        return JoinedPart(name, None, rows)
    _count_missing(table, rows, np.flatnonzero(~usable), problems)
    examples = np.flatnonzero(usable).astype(np.uint32)
    return JoinedPart(name, examples, rows[examples])


def _num_images(table: ExampleTable, column: pa.ChunkedArray) -> int:
    """Return the number of images per example, which must be the same for the whole split."""
    if not len(column):
        return 1
    lengths = pc.min_max(pc.list_value_length(column)).as_py()
    if lengths["min"] != lengths["max"]:
        raise ValueError(
            f"the examples of {table.name} have from {lengths['min']} to {lengths['max']} images; "
            "all examples of a split must have the same number"
        )
    return int(lengths["max"])


def _count_missing(
    table: ExampleTable,
    rows: Int32[np.ndarray, "N I"],
    missing: Int64[np.ndarray, M],
    problems: Problems,
) -> None:
    """Record the examples without regions: the first ones by name, the others as a count."""
    first = missing[:EXAMPLES_SHOWN]
    for position, (index, example) in enumerate(zip(first, table.take(first), strict=True)):
        missing_images = [
            image_id
            for image_id, row in zip(example.image_ids, rows[index], strict=True)
            if row < 0
        ]
        # The last named example also counts for all examples that are not named.
        count = len(missing) - position if position == len(first) - 1 else 1
        problems.add(
            "no-regions", f"{example.example_id} (image {', '.join(missing_images)})", count
        )
