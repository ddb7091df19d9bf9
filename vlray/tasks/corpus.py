"""Corpora: splits of several datasets, mixed by a rule, with a common label space.

Shapes: B: examples of a batch; P1: parts + 1.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal, Self

import numpy as np
from jaxtyping import Int64
from pydantic import BeforeValidator, Field, model_validator

from vlray.config.data import DataSection
from vlray.settings.section import Section
from vlray.tasks import catalogue
from vlray.tasks.example import Example
from vlray.tasks.examples import ExampleTable, open_examples
from vlray.tasks.labels import LabelSpace, has_known_answer, labels_of, unite
from vlray.tasks.problems import WAY_OUT, DataError, OnBad, Problems
from vlray.tasks.protocol import VisionLanguageDataset

log = logging.getLogger("vlray.tasks")

Mix = Literal["size", "weight", "round-robin"]

# dataset, then optionally :split, =weight and @regions, in this order.
_PART = re.compile(r"([^:=@,\s]+)(?::([^:=@,\s]*))?(?:=([^@,\s]+))?(?:@([^@,\s]+))?")


class CorpusPart(Section):
    """One part of a corpus: a split of a dataset."""

    dataset: str
    split: str = ""

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Share of an epoch, relative to the weights of the other parts; for ``mix: weight``."""

    regions: str = ""
    """Name of the region output for the part's images. Empty: there is only one output."""

    @property
    def name(self) -> str:
        """``dataset:split``."""
        return f"{self.dataset}:{self.split}"


def _from_text(value: object) -> object:
    if isinstance(value, str):
        return parse_parts(value)
    if isinstance(value, list | tuple):
        # A string in the list may itself contain several parts.
        return tuple(
            part
            for item in value
            for part in (parse_parts(item) if isinstance(item, str) else (item,))
        )
    return value


class CorpusSpec(Section):
    """The parts of a corpus, and how they are mixed.

    In YAML, a part is a mapping, or a string that `parse_parts` accepts, such as ``vqa:train``.
    """

    parts: Annotated[tuple[CorpusPart, ...], Field(min_length=1), BeforeValidator(_from_text)]

    mix: Mix = "size"
    """How to compose a training epoch. ``size``: every example once. ``weight``: as many examples
    as the corpus has, divided among the parts by weight; a part with fewer examples than its share
    repeats them, a part with more contributes other examples in every epoch. ``round-robin``: the
    parts take turns with one example each until the longest part is finished; shorter parts start
    again. An evaluation always reads every example once."""

    labels: str = ""
    """File with the label space (a model's answers). Empty: the union of the parts' labels."""

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        twice = [name for name, n in Counter(part.name for part in self.parts).items() if n > 1]
        if twice:
            raise ValueError(
                f"{', '.join(twice)} is in the corpus twice; to use it more often, set weights "
                "and mix: weight"
            )
        weighted = [part.name for part in self.parts if part.weight != 1]
        if weighted and self.mix != "weight":
            raise ValueError(
                f"the weight of {', '.join(weighted)} has no effect with mix: {self.mix}; "
                "set mix: weight"
            )
        return self

    def __str__(self) -> str:
        return ",".join(part.name for part in self.parts)


def parse_parts(text: str) -> tuple[CorpusPart, ...]:
    """Parse the parts of a corpus, as written on a command line.

    Args:
        text: Parts separated by commas: ``dataset:split``, optionally with ``=WEIGHT`` and
            ``@REGIONS``, such as ``vqa:train,vqa:nominival,gqa:train=2@vg``.

    Raises:
        ValueError: A part is malformed, or there are no parts.
    """
    parts = []
    for item in filter(None, (item.strip() for item in text.split(","))):
        match = _PART.fullmatch(item)
        if not match:
            raise ValueError(
                f"{item!r} is not a part; write dataset:split, or dataset:split=2@regions"
            )
        dataset, split, weight, regions = (group or "" for group in match.groups())
        # CorpusPart, too, raises a ValueError: for a weight that is 0, negative or infinite.
        try:
            number = float(weight or 1)
            parts.append(CorpusPart(dataset=dataset, split=split, weight=number, regions=regions))
        except ValueError:
            raise ValueError(
                f"the weight of {item!r} is {weight!r}; use a number above 0, such as 2 or 0.5"
            ) from None
    if not parts:
        raise ValueError("the corpus has no parts; name at least one, such as vqa:train")
    return tuple(parts)


def spec_of(corpus: CorpusSpec | str) -> CorpusSpec:
    """Parse parts given as text into a spec with ``mix: size``; return a spec unchanged."""
    return corpus if isinstance(corpus, CorpusSpec) else CorpusSpec(parts=parse_parts(corpus))


@dataclass(frozen=True, eq=False)
class Corpus:
    """Examples of several splits under one index, in the order of the parts."""

    spec: CorpusSpec
    tables: tuple[ExampleTable, ...] = field(repr=False)
    label_space: LabelSpace | None = field(default=None, repr=False)
    """None if no part has answers or classes."""

    def __len__(self) -> int:
        """Return the number of examples."""
        return int(self.starts[-1])

    @cached_property
    def starts(self) -> Int64[np.ndarray, P1]:
        """Index of each part's first example, followed by the total number of examples."""
        return np.cumsum([0, *map(len, self.tables)])

    def locate(
        self, indices: Int64[np.ndarray, B]
    ) -> tuple[Int64[np.ndarray, B], Int64[np.ndarray, B]]:
        """Return the part number for each index, and the index within that part."""
        # An empty part starts where the next one does; side="right" skips it.
        parts = np.searchsorted(self.starts, indices, side="right") - 1
        return parts, indices - self.starts[parts]

    def take(self, indices: Int64[np.ndarray, B]) -> list[Example]:
        """Read the examples at ``indices``, in the same order."""
        parts, rows = self.locate(np.asarray(indices))
        examples: dict[int, Example] = {}
        # Group the indices by part, so that each table is read in one call.
        for part in np.unique(parts):
            positions = np.flatnonzero(parts == part)
            for position, example in zip(
                positions.tolist(), self.tables[part].take(rows[positions]), strict=True
            ):
                examples[position] = example
        return [examples[position] for position in range(len(rows))]


def resolve(spec: CorpusSpec) -> list[tuple[VisionLanguageDataset, str]]:
    """Look up every part's dataset and split in the catalogue.

    Raises:
        ValueError: A dataset or split does not exist; the message lists the choices.
    """
    # If the split is empty, the error should name "vqa", not "vqa:".
    return [catalogue.find_split(f"{part.dataset}:{part.split}".rstrip(":")) for part in spec.parts]


def open_corpus(
    corpus: CorpusSpec | str,
    data: DataSection | None = None,
    label_space: LabelSpace | None = None,
) -> Corpus:
    """Open the examples of every part, and build the common label space.

    Parts without answers or classes (captions, boxes, choices) add no labels. They may be combined
    with other parts, as in pretraining, but their examples have no target.

    Args:
        corpus: The spec, or the parts as text (``vqa:train,gqa:train``).
        data: Annotation folders, and whether problems in the annotations raise an error.
        label_space: Label space to use unchanged; an evaluation passes the one from training, for
            example. None: build it from the parts.

    Raises:
        ValueError: A dataset or split does not exist.
        FileNotFoundError: A required annotation file is missing.
        DataError: The files have problems and ``data.on_bad`` is ``stop``; the message lists the
            problems of all parts.
    """
    spec, data = spec_of(corpus), data or DataSection()
    # Read all parts with on_bad skip, to report the problems of all of them at once.
    reading = data.model_copy(update={"on_bad": "skip"})
    tables = tuple(open_examples(dataset, split, reading) for dataset, split in resolve(spec))
    report(
        {part.name: table.problems for part, table in zip(spec.parts, tables, strict=True)},
        data.on_bad,
    )
    if label_space is None:
        label_space = _labels(spec, tables)
    if label_space is not None:
        title = f"kept with a target of zeros (the label space has {len(label_space):,} labels)"
        report(_unknown_answers(spec, tables, label_space), "skip", title)
    return Corpus(spec, tables, label_space)


def report(
    problems: Mapping[str, Problems],
    on_bad: OnBad,
    title: str = "left out",
) -> None:
    """Log the problems of all parts in one message, or raise them as an error.

    Args:
        problems: Problems keyed by the name of the part.
        on_bad: Which problems raise an error; others are logged as a warning.
        title: Start of the log message, which says how the affected examples are handled.

    Raises:
        DataError: There are problems that ``on_bad`` does not allow.
    """
    lines = [f"  {name}: {line}" for name, faults in problems.items() for line in faults.lines()]
    if not lines:
        return
    text = "\n".join(lines)
    if any(faults.stop(on_bad) for faults in problems.values()):
        raise DataError(
            f"there are problems in {', '.join(name for name in problems if problems[name])}:\n"
            f"{text}\n{WAY_OUT}"
        )
    log.warning("%s:\n%s", title, text)


def _labels(spec: CorpusSpec, tables: tuple[ExampleTable, ...]) -> LabelSpace | None:
    if spec.labels:
        return LabelSpace.from_file(spec.labels)
    labelled = [table for table in tables if table.spec.labels in ("answers", "classes")]
    if not labelled:
        return None
    # Count a dataset's splits together, and a split only once even if several parts name it.
    splits: dict[str, dict[str, ExampleTable]] = {}
    for table in labelled:
        splits.setdefault(table.spec.name, {})[table.split] = table
    space = unite([labels_of(*parts.values()) for parts in splits.values()])
    without = [
        part.name for part, table in zip(spec.parts, tables, strict=True) if table not in labelled
    ]
    log.info("%d labels%s", len(space), f"; none from {', '.join(without)}" if without else "")
    return space


def _unknown_answers(
    spec: CorpusSpec, tables: tuple[ExampleTable, ...], space: LabelSpace
) -> dict[str, Problems]:
    """Count, for each part, the examples whose target is zero because no answer is a label.

    Such examples never stop a run: a vocabulary of frequent answers misses some in every dataset.
    """
    problems: dict[str, Problems] = {}
    for part, table in zip(spec.parts, tables, strict=True):
        if table.spec.labels in ("answers", "classes"):
            has_known_answer(table, space, problems.setdefault(part.name, Problems()))
    return problems
