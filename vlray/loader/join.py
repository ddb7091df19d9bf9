"""Where the regions of examples' images are: one row of an output for every image.

Shapes: N examples of a part, I images of an example (NLVR2: 2).
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


class Findable(Protocol):
    """A region output, as far as its rows are to be found by the images' ids."""

    def rows(self, image_ids: pa.ChunkedArray, /) -> Int64[np.ndarray, N]:
        """Give the row of each image; -1: it has no regions."""
        ...


F = TypeVar("F", bound=Findable)


@dataclass(frozen=True, eq=False)
class JoinedPart:
    """The usable examples of a part of the corpus.

    Attributes:
        regions: Name of the output that has the rows.
        examples: Index of each in its table; None: all of them are usable.
        rows: Row of each of its images.
    """

    regions: str
    examples: UInt32[np.ndarray, N] | None
    rows: Int32[np.ndarray, "N I"]

    def __len__(self) -> int:
        """Give the number of examples."""
        return len(self.rows)

    @property
    def kind(self) -> tuple[str, int]:
        """What all examples of a batch have in common: the output, and images an example."""
        return self.regions, self.rows.shape[1]


@dataclass(frozen=True, eq=False)
class Join:
    """The usable examples of a corpus, numbered through: those of the first part come first."""

    parts: tuple[JoinedPart, ...]
    starts: Int64[np.ndarray, P1] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", np.cumsum([0, *map(len, self.parts)]))

    def __len__(self) -> int:
        """Give the number of usable examples."""
        return int(self.starts[-1])

    @property
    def kinds(self) -> list[tuple[str, int]]:
        """The kinds of batches there are, in the order of the parts."""
        return list(dict.fromkeys(part.kind for part in self.parts))

    def places(self, corpus: Corpus) -> Int64[np.ndarray, N]:
        """Give the index in the corpus of every usable example."""
        found = [
            (np.arange(len(part)) if part.examples is None else part.examples) + start
            for part, start in zip(self.parts, corpus.starts, strict=False)
        ]
        return np.concatenate(found).astype(np.int64)

    def narrowed(self, indices: Int64[np.ndarray, B]) -> Join:
        """Keep some of the usable examples, in the order in which they are."""
        kept = np.zeros(len(self), bool)
        kept[indices] = True
        parts = []
        for part, start in zip(self.parts, self.starts, strict=False):
            local = np.flatnonzero(kept[start : start + len(part)]).astype(np.uint32)
            examples = local if part.examples is None else part.examples[local]
            parts.append(JoinedPart(part.regions, examples, part.rows[local]))
        return Join(tuple(parts))

    def locate(
        self, corpus: Corpus, indices: Int64[np.ndarray, B]
    ) -> tuple[tuple[str, int], Int64[np.ndarray, B], Int64[np.ndarray, "B I"]]:
        """Give the kind of a batch, the examples' indices in the corpus, and their rows.

        Raises:
            ValueError: The examples are of different kinds.
        """
        indices = np.asarray(indices, np.int64)
        owners = np.searchsorted(self.starts, indices, side="right") - 1
        present = np.unique(owners)
        kinds = {self.parts[part].kind for part in present.tolist()}
        if len(kinds) != 1:
            found = " and ".join(f"{n} images each, regions {r!r}" for r, n in sorted(kinds))
            raise ValueError(
                f"the examples are of {found}, which cannot be in one batch; take the batches "
                "that RegionLoader makes"
            )
        kind = kinds.pop()
        places = np.empty(len(indices), np.int64)
        rows = np.empty((len(indices), kind[1]), np.int64)
        for number in present.tolist():
            part, mine = self.parts[number], owners == number
            local = indices[mine] - self.starts[number]
            rows[mine] = part.rows[local]
            chosen = local if part.examples is None else part.examples[local]
            places[mine] = chosen + corpus.starts[number]
        return kind, places, rows


def join(corpus: Corpus, outputs: Mapping[str, F], on_bad: OnBad) -> Join:
    """Find the rows of every example's images, and leave out those that lack some.

    Raises:
        ValueError: A part names no output, or one that is not given; or none of its images is in
            its output.
        DataError: Images have no regions, and ``on_bad`` is stop.
    """
    problems: dict[str, Problems] = {}
    joined: list[JoinedPart] = []
    for part, table in zip(corpus.spec.parts, corpus.tables, strict=True):
        name = choose(part.regions, part.name, outputs)
        problems[part.name] = Problems()
        found = _join_part(name, table, outputs[name], problems[part.name])
        if not len(found) and len(table):
            raise ValueError(
                f"none of the {len(table):,} examples of {part.name} has regions"
                f"{f' in {name}' if name else ''}: {'; '.join(problems[part.name].lines())}. "
                "Were the regions made of these images, and with the dataset's --id-rule "
                f"({table.spec.id_rule})?"
            )
        joined.append(found)
    report(problems, on_bad)
    return Join(tuple(joined))


def choose(wanted: str, part: str, outputs: Mapping[str, F]) -> str:
    """Give the name of the output for a part of the corpus.

    Raises:
        ValueError: It names none while there are several, or one that is not given.
    """
    if not wanted and len(outputs) == 1:
        return next(iter(outputs))
    if wanted not in outputs:
        known = ", ".join(sorted(outputs)) or "none"
        said = f"wants the regions {wanted!r}" if wanted else "does not say which regions it wants"
        raise ValueError(f"{part} {said}; given are {known}. Name one in the corpus: {part}@NAME")
    return wanted


def _join_part(name: str, table: ExampleTable, output: Findable, problems: Problems) -> JoinedPart:
    """Look every image up, all at once: each look-up goes through all ids of the output."""
    column = table.column("image_ids")
    images = _images_of_each(table, column)
    flat = pa.chunked_array([chunk.flatten() for chunk in column.chunks], pa.string())
    whole = output.rows(flat).astype(np.int32).reshape(-1, images)
    usable = (whole >= 0).all(axis=1)
    if usable.all():
        return JoinedPart(name, None, whole)
    _count_missing(table, whole, np.flatnonzero(~usable), problems)
    kept = np.flatnonzero(usable).astype(np.uint32)
    return JoinedPart(name, kept, whole[kept])


def _images_of_each(table: ExampleTable, column: pa.ChunkedArray) -> int:
    if not len(column):
        return 1
    found = pc.min_max(pc.list_value_length(column)).as_py()
    if found["min"] != found["max"]:
        raise ValueError(
            f"the examples of {table.name} have from {found['min']} to {found['max']} images; "
            "all examples of a split must have as many"
        )
    return int(found["max"])


def _count_missing(
    table: ExampleTable,
    rows: Int32[np.ndarray, "N I"],
    missing: Int64[np.ndarray, M],
    problems: Problems,
) -> None:
    first = missing[:EXAMPLES_SHOWN]
    for place, (index, example) in enumerate(zip(first, table.take(first), strict=True)):
        absent = [
            image_id
            for image_id, row in zip(example.image_ids, rows[index], strict=True)
            if row < 0
        ]
        count = len(missing) - place if place == len(first) - 1 else 1
        problems.add("no-regions", f"{example.example_id} (image {', '.join(absent)})", count)
