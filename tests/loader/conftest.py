"""Small outputs and datasets, written as the commands and official files are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.fixtures.random_outputs import write_output
from vlray.tasks.corpus import Corpus, CorpusSpec
from vlray.tasks.example import Answers, Example
from vlray.tasks.examples import ExampleTable, table_from
from vlray.tasks.labels import LabelSpace
from vlray.tasks.spec import DatasetSpec

WriteRegions = Callable[..., str]


@pytest.fixture
def write_regions() -> WriteRegions:
    return write_output


@pytest.fixture
def regions(tmp_path: Path) -> str:
    """Forty images, ``0`` to ``39``, in eight parts."""
    return write_output(str(tmp_path / "out"), [str(number) for number in range(40)])


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., ExampleTable]:
    """Make the table of a split ``name:train`` from texts and image ids."""

    def make(name: str, images: Iterable[tuple[str, ...]], image_set: str = "x") -> ExampleTable:
        spec = DatasetSpec.model_validate(
            {
                "name": name,
                "title": name,
                "purposes": ["question answering"],
                "layout": "nothing:read",
                "image_set": image_set,
                "labels": "answers",
                "metric": "exact match",
                "splits": {"train": {}},
            }
        )
        examples = (
            Example(f"{name}-{i}", f"is it number {i}?", ids, Answers(("yes" if i % 3 else "no",)))
            for i, ids in enumerate(images)
        )
        return table_from(examples, spec, "train", tmp_path / f"{name}.arrow")

    return make


@pytest.fixture
def corpus_of() -> Callable[..., Corpus]:
    """Make a corpus of tables; ``mix`` and ``parts`` may be others than the plain ones."""

    def make(*tables: ExampleTable, parts: str = "", **spec: object) -> Corpus:
        names = parts or ",".join(table.name for table in tables)
        return Corpus(
            CorpusSpec.model_validate({"parts": names} | spec), tables, LabelSpace(("no", "yes"))
        )

    return make
