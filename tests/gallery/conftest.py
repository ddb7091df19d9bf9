"""Outputs of made-up photographs, written by the functions that extract writes with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.gallery.photos import FAILED, PHOTOS, Photo, jpeg
from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput, open_output
from vlray.regions.schema import FAILURES, regions_schema, to_table

OBJECTS = ("carrot", "orange", "plate", "<b>&\"'", "never seen")
ATTRIBUTES = ("orange", "white")
FEATURE_DIM = 4


def _batch(photos: Sequence[Photo], labels: bool, scores: bool) -> RegionBatch:
    rows = np.array([row for photo in photos for row in photo.regions], np.float32).reshape(-1, 8)
    heads = {}
    if labels:
        heads = {
            "obj_ids": rows[:, 4].astype(np.int32),
            "obj_probs": rows[:, 5],
            "attr_ids": rows[:, 6].astype(np.int32),
            "attr_probs": rows[:, 7],
        }
        if not scores:
            heads = {name: heads[name] for name in ("obj_ids", "attr_ids")}
    return RegionBatch(
        np.array([[photo.height, photo.width] for photo in photos], np.int32).reshape(-1, 2),
        np.array([len(photo.regions) for photo in photos], np.int32),
        np.ascontiguousarray(rows[:, :4]),
        np.zeros((len(rows), FEATURE_DIM), np.float32),
        **heads,
    )


MakeOutput = Callable[..., RegionOutput]


@pytest.fixture
def make_output(tmp_path: Path) -> MakeOutput:
    """Write photographs and the output of a detector on them; files of two images each."""

    def make(
        photos: Sequence[Photo] = PHOTOS,
        failed: Sequence[tuple[str, ...]] = FAILED,
        labels=True,
        scores=True,
    ) -> RegionOutput:
        images, out = tmp_path / "photos", tmp_path / "out"
        for photo in photos:
            if photo.on_disk:
                file = images / photo.path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(jpeg(photo))
        for folder in (parts.REGIONS, parts.FAILURES):
            (out / folder).mkdir(parents=True)
        for shard, start in enumerate(range(0, len(photos), 2)):
            some = photos[start : start + 2]
            names = ([getattr(p, name) for p in some] for name in ("image_id", "path", "split"))
            table = to_table(_batch(some, labels, scores), *names, regions_schema(FEATURE_DIM))
            part = out / parts.REGIONS / parts.part_name(shard)
            part.write_bytes(parts.encode_regions(table, "zstd"))
        rows = [dict(zip(FAILURES.names, row, strict=True)) for row in failed]
        table = pa.Table.from_pylist(rows, schema=FAILURES)
        (out / parts.FAILURES / parts.part_name(0)).write_bytes(parts.encode_plain(table))
        about = {
            "dataset": "fruit & <bowls>",
            "images_root": str(images),
            "detector": {"name": "made-up"},
            "settings": {"detector.min_boxes": 2, "output.dtype": "float16"},
            "vlray_version": "0",
            "schema_version": 1,
        }
        (out / parts.SETTINGS).write_text(json.dumps(about))
        names = {"obj_names": OBJECTS, "attr_names": ATTRIBUTES} if labels else {}
        (out / parts.LABELS).write_text(json.dumps({"obj_names": [], "attr_names": []} | names))
        return open_output(str(out))

    return make
