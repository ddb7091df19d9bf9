from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.regions.batch import RegionBatch


def batch_of(num_boxes: list[int], dim: int = 4, *, labels: bool = True) -> RegionBatch:
    rng = np.random.default_rng(0)
    regions = sum(num_boxes)
    return RegionBatch(
        image_hw=np.full((len(num_boxes), 2), 100, np.int32),
        num_boxes=np.array(num_boxes, np.int32),
        boxes=rng.random((regions, 4), np.float32),
        visual_feats=rng.random((regions, dim), np.float32),
        obj_ids=np.arange(regions, dtype=np.int32) if labels else None,
        obj_probs=rng.random(regions, np.float32) if labels else None,
    )


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_taking_a_batch_apart_and_joining_it_gives_it_back(num_boxes: list[int]) -> None:
    whole = batch_of(num_boxes)
    parts = list(whole)
    assert [len(part.boxes) for part in parts] == num_boxes
    again = RegionBatch.concat(parts)
    np.testing.assert_array_equal(again.visual_feats, whole.visual_feats)
    np.testing.assert_array_equal(again.obj_ids, whole.obj_ids)
    assert again.attr_ids is None


def test_a_column_that_is_too_short_is_named() -> None:
    good = batch_of([2, 1])
    with pytest.raises(ValueError, match="obj_ids has 2 rows, but num_boxes sums to 3"):
        RegionBatch(
            good.image_hw,
            good.num_boxes,
            good.boxes,
            good.visual_feats,
            np.zeros(2, np.int32),
        )


def test_batches_with_and_without_labels_do_not_join() -> None:
    with pytest.raises(ValueError, match="obj_ids must be in all batches or in none"):
        RegionBatch.concat([batch_of([1]), batch_of([1], labels=False)])
