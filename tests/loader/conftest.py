"""Small outputs and datasets, written as the commands and official files are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.schema import regions_schema, to_table
from vlray.storage import files
from vlray.tasks.corpus import Corpus, CorpusSpec
from vlray.tasks.example import Answers, Example
from vlray.tasks.examples import ExampleTable, table_from
from vlray.tasks.labels import LabelSpace
from vlray.tasks.spec import DatasetSpec

WriteRegions = Callable[..., str]


def write_output(out: str, ids: list[str], *, dim: int = 8, per_part: int = 5) -> str:
    """Write an output; image number n has n % 4 + 1 regions, whose vectors begin with n."""
    about = {"vlray_version": "0.1.0", "schema_version": 1, "detector": {"name": "lite"}}
    about |= {"dataset": "made", "images_root": "/photographs", "settings": {}}
    fs, root = files.resolve(out)
    files.write_atomic(fs, files.join(root, parts.SETTINGS), json.dumps(about).encode())
    schema = regions_schema(dim, "float16", about | {"detector_name": "lite"})
    for start in range(0, len(ids), per_part):
        numbers = np.arange(start, min(start + per_part, len(ids)))
        counts = (numbers % 4 + 1).astype(np.int32)
        rng, regions = np.random.default_rng(start), int(counts.sum())
        corners = np.sort(rng.random((regions, 2, 2), np.float32), axis=1).reshape(-1, 4)
        feats = rng.random((regions, dim), np.float32)
        feats[:, 0] = np.repeat(numbers, counts)
        batch = RegionBatch(
            image_hw=np.tile(np.array([[100, 200]], np.int32), (len(numbers), 1)),
            num_boxes=counts,
            boxes=corners * np.array([200, 100, 200, 100], np.float32),
            visual_feats=feats,
            obj_ids=rng.integers(0, 9, regions).astype(np.int32),
            obj_probs=rng.random(regions, np.float32),
        )
        names = [ids[number] for number in numbers]
        table = to_table(batch, names, names, [""] * len(names), schema)
        path = files.join(root, parts.REGIONS, parts.part_name(start // per_part))
        files.write_atomic(fs, path, parts.encode_regions(table, "zstd"))
    return out


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
