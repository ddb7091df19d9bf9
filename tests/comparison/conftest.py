"""Outputs to compare: what ``lite`` finds on real photographs, and the published features."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skimage

from vlray.detect.notebook import detector_info, find_regions
from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.schema import FAILURES, regions_schema, to_table

PHOTOS = Path(skimage.__file__).parent / "data"
NAMES = ("astronaut.png", "chelsea.png", "coffee.png")
IDS = ("astronaut", "chelsea", "coffee")

WriteOutput = Callable[..., str]


@pytest.fixture(scope="session")
def regions() -> RegionBatch:
    """36 regions of each of three photographs."""
    return find_regions([PHOTOS / name for name in NAMES])


@pytest.fixture(scope="session")
def smaller() -> RegionBatch:
    """20 regions of the same photographs, looked at in a smaller size."""
    return find_regions([PHOTOS / name for name in NAMES], min_size=400, max_boxes=20)


@pytest.fixture
def write_output(tmp_path: Path) -> WriteOutput:
    """Write regions as an output, a file for every two images."""

    def write(
        name: str,
        batch: RegionBatch,
        image_ids: Sequence[str] = IDS,
        *,
        dtype: str = "float32",
        order: Sequence[int] | None = None,
        failed: Sequence[tuple[str, ...]] = (),
        obj_names: Sequence[str] | None = None,
        attr_names: Sequence[str] = (),
        splits: Sequence[str] | None = None,
        conventions: dict[str, Any] | None = None,
        **about: Any,
    ) -> str:
        out = tmp_path / name
        (out / parts.REGIONS).mkdir(parents=True)
        rows = list(zip(image_ids, batch, splits or ["train"] * len(batch), strict=True))
        rows = rows if order is None else [rows[index] for index in order]
        dim = batch.visual_feats.shape[1]
        schema = regions_schema(dim, dtype, {"conventions": conventions or {}})
        for shard, start in enumerate(range(0, len(rows), 2)):
            ids, batches, of_split = zip(*rows[start : start + 2], strict=True)
            paths = [f"{image_id}.png" for image_id in ids]
            table = to_table(RegionBatch.concat(batches), ids, paths, of_split, schema)
            encoded = parts.encode_regions(table, "zstd")
            (out / parts.REGIONS / parts.part_name(shard)).write_bytes(encoded)
        if failed:
            (out / parts.FAILURES).mkdir()
            failures = [dict(zip(FAILURES.names, row, strict=True)) for row in failed]
            table = pa.Table.from_pylist(failures, schema=FAILURES)
            (out / parts.FAILURES / parts.part_name(0)).write_bytes(parts.encode_plain(table))
        if obj_names is None:
            obj_names = detector_info().obj_names
        labels = {"obj_names": list(obj_names), "attr_names": list(attr_names)}
        (out / parts.LABELS).write_text(json.dumps(labels))
        settings = {
            "dataset": "photographs",
            "images_root": str(PHOTOS),
            "detector": {"name": "lite"},
            "settings": {"output.dtype": dtype},
            "vlray_version": "0.1.0",
            "schema_version": 1,
        }
        (out / parts.SETTINGS).write_text(json.dumps(settings | about))
        return str(out)

    return write


@pytest.fixture(scope="session")
def published(shared: Path) -> tuple[list[str], RegionBatch]:
    """The Caffe network's own features of ten photographs, with attributes."""
    csv.field_size_limit(1 << 24)
    ids, batches = [], []
    with (shared / "fixtures/butd/train2014_obj36.tsv").open() as file:
        for row in csv.reader(file, delimiter="\t"):
            objects, probs, attributes, attribute_probs = (
                np.frombuffer(base64.b64decode(row[index]), dtype)
                for index, dtype in ((3, "<i8"), (4, "<f4"), (5, "<i8"), (6, "<f4"))
            )
            boxes, features = (
                np.frombuffer(base64.b64decode(row[index]), "<f4").reshape(int(row[7]), -1)
                for index in (8, 9)
            )
            ids.append(row[0])
            batches.append(
                RegionBatch(
                    np.array([[row[1], row[2]]]).astype(np.int32),
                    np.array([len(boxes)], np.int32),
                    boxes,
                    features,
                    objects.astype(np.int32),
                    probs,
                    attributes.astype(np.int32),
                    attribute_probs,
                )
            )
    return ids, RegionBatch.concat(batches)
