"""What is measured on a pair of boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vlray.comparison.metrics import Comparable, compare_image, feature_distances
from vlray.regions.batch import RegionBatch

EVERYTHING = Comparable(features=True, objects=True, attributes=True, all=True)


def test_cosine_and_l2_are_those_of_the_textbook(regions) -> None:
    a, b = regions.visual_feats[:50], regions.visual_feats[50:100]
    cosine, l2 = feature_distances(a, b)
    wide = a.astype(np.float64), b.astype(np.float64)
    norms = [np.linalg.norm(side, axis=1) for side in wide]
    expected = (wide[0] * wide[1]).sum(axis=1) / norms[0] / norms[1]
    np.testing.assert_allclose(1 - cosine, expected, atol=1e-12)
    np.testing.assert_allclose(l2, np.linalg.norm(wide[0] - wide[1], axis=1) / norms[0])


def test_a_cosine_close_to_one_keeps_its_digits(regions) -> None:
    a = regions.visual_feats[:20].astype(np.float64)
    rng = np.random.default_rng(0)
    across = rng.normal(size=a.shape)
    across -= (across * a).sum(1, keepdims=True) / (a**2).sum(1, keepdims=True) * a
    scale = np.linalg.norm(a, axis=1, keepdims=True) / np.linalg.norm(across, axis=1, keepdims=True)
    cosine, _ = feature_distances(a, a + 1e-6 * scale * across)
    np.testing.assert_allclose(cosine, 0.5e-12, rtol=1e-3)


@pytest.mark.parametrize(
    ("a", "b", "cosine", "l2"),
    [
        ([0, 0], [0, 0], 0, 0),
        ([0, 0], [3, 4], 1, 1),
        ([3, 4], [0, 0], 1, 1),
        ([3, 4], [6, 8], 0, 1),
        ([3, 4], [-3, -4], 2, 2),
        ([3, 4], [np.nan, 1], 1, 1),
        ([np.inf, 4], [np.inf, 4], 1, 1),
    ],
)
def test_vectors_of_zeros_and_worse_still_have_a_distance(a, b, cosine, l2) -> None:
    found = feature_distances(np.array([a], np.float32), np.array([b], np.float32))
    assert found[0][0] == pytest.approx(cosine, abs=1e-15)
    assert found[1][0] == pytest.approx(l2)


def test_of_half_precision_all_that_differs_is_rounding(regions) -> None:
    half = replace(regions, visual_feats=regions.visual_feats.astype(np.float16))
    for a, b in zip(regions, half, strict=True):
        for one, two in ((a, b), (b, a)):
            metrics = compare_image(one, two, EVERYTHING, 0.5)
            np.testing.assert_allclose(metrics.rel_l2, metrics.rounding, rtol=1e-3)
            assert 1e-5 < metrics.rel_l2.mean() < 5e-4
            assert not metrics.identical


def test_the_same_regions_are_identical_and_one_bit_is_seen(regions) -> None:
    image = next(iter(regions))
    copy = next(iter(replace(regions, boxes=regions.boxes.copy())))
    metrics = compare_image(image, copy, EVERYTHING, 0.5)
    assert metrics.identical
    assert metrics.unmatched == 0
    assert metrics.cosine_distance.max() == metrics.rel_l2.max() == 0
    assert metrics.rounding is None
    copy.boxes[3, 2] = np.nextafter(copy.boxes[3, 2], np.float32(0))
    assert not compare_image(image, copy, EVERYTHING, 0.5).identical


def test_a_resized_image_is_compared_in_the_size_of_the_first(regions) -> None:
    doubled = replace(regions, image_hw=regions.image_hw * 2, boxes=regions.boxes * 2)
    for a, b in zip(regions, doubled, strict=True):
        metrics = compare_image(a, b, EVERYTHING, 0.9)
        assert len(metrics.pairs) == metrics.num_a
        assert not metrics.same_size


def test_classes_attributes_and_scores_are_those_of_the_partners(published) -> None:
    image = next(iter(published[1]))
    order = np.random.default_rng(0).permutation(36)
    moved = RegionBatch(
        image.image_hw,
        image.num_boxes,
        *(getattr(image, name)[order] for name in ("boxes", "visual_feats", "obj_ids")),
        image.obj_probs[order] + np.float32(0.01),
        *(getattr(image, name)[order] for name in ("attr_ids", "attr_probs")),
    )
    moved.obj_ids[0] += 1
    moved.attr_ids[:2] += 1
    row = compare_image(image, moved, EVERYTHING, 0.5).as_row()
    assert (row["matched"], row["same_class"], row["same_attribute"]) == (36, 35, 34)
    assert row["score_diff_mean"] == pytest.approx(0.01, abs=1e-6)
    assert row["cosine_min"] == 1
    assert not row["identical"]


def test_what_is_not_comparable_is_left_out(regions) -> None:
    image = next(iter(regions))
    row = compare_image(image, image, Comparable(False, False, False, False), 0.5).as_row()
    assert row["matched"] == 36
    for name in ("cosine_mean", "rel_l2_max", "same_class", "score_diff_mean", "same_attribute"):
        assert row[name] is None
    assert not row["identical"]
