"""Corpora: splits of several datasets as one, mixed by a rule, with one space of labels."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from jaxtyping import Int64
from pydantic import BeforeValidator, Field, model_validator

from vlray.config.data import DataSection
from vlray.settings.section import Section
from vlray.tasks import catalogue
from vlray.tasks.example import Example
from vlray.tasks.examples import ExampleTable, open_examples
from vlray.tasks.labels import LabelSpace, has_known_answer, labels_of, unite
from vlray.tasks.problems import DataError, Problems
from vlray.tasks.protocol import VisionLanguageDataset

log = logging.getLogger("vlray.tasks")

Mix = Literal["size", "weight", "round-robin"]

_PART = re.compile(r"([^:=@,\s]+)(?::([^:=@,\s]*))?(?:=([^@,\s]+))?(?:@([^@,\s]+))?")


class CorpusPart(Section):
    """A split of a dataset in a corpus."""

    dataset: str
    split: str = ""

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Of ``mix: weight``: the part's share of an epoch, beside the other parts' weights."""

    regions: str = ""
    """Name of the region output that its images are in. Empty: there is only one."""

    @property
    def name(self) -> str:
        """``dataset:split``."""
        return f"{self.dataset}:{self.split}"


def _from_text(value: Any) -> Any:
    if isinstance(value, str):
        return parse_parts(value)
    if isinstance(value, list | tuple):
        return tuple(
            part
            for item in value
            for part in (parse_parts(item) if isinstance(item, str) else (item,))
        )
    return value


class CorpusSpec(Section):
    """Which splits make a corpus, and how they are mixed.

    In YAML a part is a mapping, or the text that `parse_parts` reads: ``vqa:train``.
    """

    parts: Annotated[tuple[CorpusPart, ...], Field(min_length=1), BeforeValidator(_from_text)]

    mix: Mix = "size"
    """What an epoch of training is. ``size``: every example once. ``weight``: as many examples as
    the corpus has, of each part its weight's share: a part that has fewer is gone through again,
    of one that has more other examples come every epoch. ``round-robin``: the parts take turns,
    an example each, until the longest is through; the others begin again.
    An evaluation reads every example once, whatever the mix."""

    labels: str = ""
    """File of the label space (a model's answers). Empty: the parts' own labels, united."""

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        twice = [name for name, n in Counter(part.name for part in self.parts).items() if n > 1]
        if twice:
            raise ValueError(
                f"{', '.join(twice)} is in the corpus twice; to have more of it, give "
                "weights and mix: weight"
            )
        weighted = [part.name for part in self.parts if part.weight != 1]
        if weighted and self.mix != "weight":
            raise ValueError(
                f"the weight of {', '.join(weighted)} has no effect with mix: {self.mix}; "
                "give mix: weight"
            )
        return self

    def __str__(self) -> str:
        return ",".join(part.name for part in self.parts)


def parse_parts(text: str) -> tuple[CorpusPart, ...]:
    """Read parts as they are written on a command line.

    Args:
        text: ``dataset:split``, with ``=WEIGHT`` and ``@REGIONS`` where they are wanted, separated
            by commas: ``vqa:train,vqa:nominival,gqa:train=2@vg``.

    Raises:
        ValueError: A part is not of this form.
    """
    parts = []
    for item in filter(None, (item.strip() for item in text.split(","))):
        match = _PART.fullmatch(item)
        if not match:
            raise ValueError(
                f"{item!r} is no part; write dataset:split, or dataset:split=2@regions"
            )
        dataset, split, weight, regions = (found or "" for found in match.groups())
        try:
            number = float(weight or 1)
            parts.append(CorpusPart(dataset=dataset, split=split, weight=number, regions=regions))
        except ValueError:
            raise ValueError(
                f"the weight of {item!r} is {weight!r}; give a number above 0, such as 2 or 0.5"
            ) from None
    if not parts:
        raise ValueError("the corpus has no parts; give one such as vqa:train")
    return tuple(parts)


def spec_of(corpus: CorpusSpec | str) -> CorpusSpec:
    """Give the spec of parts in text (mixed by size); a spec stays what it is."""
    return corpus if isinstance(corpus, CorpusSpec) else CorpusSpec(parts=parse_parts(corpus))


@dataclass(frozen=True, eq=False)
class Corpus:
    """The examples of several splits, numbered through: those of the first part come first."""

    spec: CorpusSpec
    tables: tuple[ExampleTable, ...] = field(repr=False)
    label_space: LabelSpace | None = field(default=None, repr=False)
    """None: no part has answers or classes."""

    def __len__(self) -> int:
        """Give the number of examples."""
        return int(self.starts[-1])

    @cached_property
    def starts(self) -> Int64[np.ndarray, P1]:
        """Index of each part's first example, and at the end their number."""
        return np.cumsum([0, *map(len, self.tables)])

    def locate(
        self, indices: Int64[np.ndarray, B]
    ) -> tuple[Int64[np.ndarray, B], Int64[np.ndarray, B]]:
        """Give the part of each index, and the example's index in its part."""
        parts = np.searchsorted(self.starts, indices, side="right") - 1
        return parts, indices - self.starts[parts]

    def take(self, indices: Int64[np.ndarray, B]) -> list[Example]:
        """Read examples, in the order asked for."""
        parts, rows = self.locate(np.asarray(indices))
        examples: dict[int, Example] = {}
        for part in np.unique(parts):
            places = np.flatnonzero(parts == part)
            for place, example in zip(
                places.tolist(), self.tables[part].take(rows[places]), strict=True
            ):
                examples[place] = example
        return [examples[place] for place in range(len(rows))]


def resolve(spec: CorpusSpec) -> list[tuple[VisionLanguageDataset, str]]:
    """Find every part's dataset and split in the catalogue.

    Raises:
        ValueError: There is no such dataset or split; the choices are said.
    """
    return [catalogue.find_split(f"{part.dataset}:{part.split}".rstrip(":")) for part in spec.parts]


def open_corpus(
    corpus: CorpusSpec | str,
    data: DataSection | None = None,
    label_space: LabelSpace | None = None,
) -> Corpus:
    """Open the examples of every part, and unite their labels.

    Parts without answers or classes (captions, boxes, choices) add no labels; they may be beside
    others, as in pretraining, and their examples have no target then.

    Args:
        corpus: The spec, or its parts as text (``vqa:train,gqa:train``).
        data: Where annotations are, and whether to stop at what is wrong in them.
        label_space: A space to use as it is: that of the training, for an evaluation.

    Raises:
        ValueError: A dataset or split does not exist.
        DataError: Something is wrong with the files and ``data.on_bad`` is stop; the problems of
            all parts are told together.
    """
    spec, data = spec_of(corpus), data or DataSection()
    found = resolve(spec)
    # Nothing stops the reading, so that what is wrong is told of all parts at once.
    reading = data.model_copy(update={"on_bad": "skip"})
    tables = tuple(open_examples(dataset, split, reading) for dataset, split in found)
    report(
        {part.name: table.problems for part, table in zip(spec.parts, tables, strict=True)},
        data.on_bad,
    )
    if label_space is None:
        label_space = _labels(spec, tables)
    if label_space is not None:
        said = f"kept, though nothing among the {len(label_space):,} labels is right for them"
        report(_unknown_answers(spec, tables, label_space), "skip", said)
    return Corpus(spec, tables, label_space)


def report(
    problems: Mapping[str, Problems],
    on_bad: Literal["skip", "stop"],
    what: str = "left out",
) -> None:
    """Tell the problems of all parts in one message, or stop with it.

    Args:
        problems: By the name of the part.
        on_bad: Whether to stop.
        what: What becomes of the examples where nothing stops.

    Raises:
        DataError: There are problems, and the setting says to stop.
    """
    lines = [f"  {name}: {line}" for name, found in problems.items() for line in found.lines()]
    if not lines:
        return
    text = "\n".join(lines)
    if on_bad == "stop":
        raise DataError(
            f"there are problems in {', '.join(name for name in problems if problems[name])}:\n"
            f"{text}\nMend the files, or leave these out: data.on_bad skip"
        )
    log.warning("%s:\n%s", what, text)


def _labels(spec: CorpusSpec, tables: tuple[ExampleTable, ...]) -> LabelSpace | None:
    if spec.labels:
        return LabelSpace.from_file(spec.labels)
    labelled = [table for table in tables if table.spec.labels in ("answers", "classes")]
    if not labelled:
        return None
    # Splits of one dataset are counted together; one that is given twice counts once.
    splits: dict[str, dict[str, ExampleTable]] = {}
    for table in labelled:
        splits.setdefault(table.spec.name, {})[table.split] = table
    space = unite([labels_of(*those.values()) for those in splits.values()])
    without = [
        part.name for part, table in zip(spec.parts, tables, strict=True) if table not in labelled
    ]
    log.info("%d labels%s", len(space), f"; none are of {', '.join(without)}" if without else "")
    return space


def _unknown_answers(
    spec: CorpusSpec, tables: tuple[ExampleTable, ...], space: LabelSpace
) -> dict[str, Problems]:
    """Count, by part, the examples whose target is zero because no answer is a label.

    Never a reason to stop: a vocabulary by frequency leaves some out of every dataset.
    """
    found: dict[str, Problems] = {}
    for part, table in zip(spec.parts, tables, strict=True):
        if table.spec.labels in ("answers", "classes"):
            has_known_answer(table, space, found.setdefault(part.name, Problems()))
    return found
