from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.regions.batch import RegionBatch
from vlray.regions.parts import encode_regions
from vlray.regions.schema import FeatureDtype, from_table, regions_schema, to_table


def batch_of(num_boxes: list[int], *, scale: float = 1.0, labels: bool = True) -> RegionBatch:
    rng = np.random.default_rng(len(num_boxes))
    regions = sum(num_boxes)
    return RegionBatch(
        image_hw=rng.integers(1, 2000, (len(num_boxes), 2)).astype(np.int32),
        num_boxes=np.array(num_boxes, np.int32),
        boxes=rng.random((regions, 4), np.float32) * 1000,
        visual_feats=rng.random((regions, 8), np.float32) * scale,
        obj_ids=rng.integers(0, 80, regions).astype(np.int32) if labels else None,
        obj_probs=rng.random(regions, np.float32) if labels else None,
    )


def ids(batch: RegionBatch) -> list[str]:
    return [f"image {index}" for index in range(len(batch))]


def table_of(batch: RegionBatch, dtype: FeatureDtype = "float16") -> pa.Table:
    names = ids(batch)
    return to_table(batch, names, names, ["all"] * len(batch), regions_schema(8, dtype))


@given(st.lists(st.integers(0, 5), max_size=6), st.sampled_from(["float16", "float32"]))
def test_arrow_and_parquet_keep_every_box(num_boxes: list[int], dtype: FeatureDtype) -> None:
    batch = batch_of(num_boxes)
    table = table_of(batch, dtype)
    stored = pq.read_table(pa.BufferReader(encode_regions(table, "zstd")))
    assert stored.equals(table)
    again = from_table(stored)
    np.testing.assert_array_equal(again.image_hw, batch.image_hw)
    np.testing.assert_array_equal(again.num_boxes, batch.num_boxes)
    np.testing.assert_array_equal(again.boxes, batch.boxes)
    np.testing.assert_array_equal(again.visual_feats, batch.visual_feats.astype(dtype))
    if batch.num_boxes.sum():
        np.testing.assert_array_equal(again.obj_ids, batch.obj_ids)
        assert again.attr_ids is None


def test_a_slice_of_a_table_gives_its_own_images_only() -> None:
    batch = batch_of([2, 3, 1])
    middle = from_table(table_of(batch, "float32").slice(1, 1))
    np.testing.assert_array_equal(middle.boxes, batch.boxes[2:5])


def test_labels_that_a_detector_has_not_are_empty_lists() -> None:
    table = table_of(batch_of([2, 1], labels=False))
    assert table["obj_ids"].to_pylist() == [[], []]
    assert from_table(table).obj_ids is None


def test_values_beyond_float16_are_clipped_to_its_range() -> None:
    table = table_of(batch_of([1], scale=1e6))
    features = from_table(table).visual_feats
    assert np.isfinite(features).all()
    assert features.max() == np.finfo(np.float16).max


def test_a_vector_that_is_not_finite_is_refused_with_its_image() -> None:
    batch = batch_of([1, 2, 1])
    batch.visual_feats[3, 0] = np.nan
    with pytest.raises(ValueError, match="image 'image 2' has a feature vector"):
        table_of(batch)


def test_vectors_of_another_length_are_refused() -> None:
    batch = batch_of([1])
    with pytest.raises(ValueError, match="the table expects vectors of length 16"):
        to_table(batch, ["a"], ["a"], ["all"], regions_schema(16))


def test_provenance_is_json_under_vlray() -> None:
    schema = regions_schema(8, provenance={"detector": "lite"})
    assert json.loads(schema.metadata[b"vlray"]) == {"detector": "lite"}
