"""Partners are found one to one, the highest IoU first."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from vlray.comparison.matching import match
from vlray.regions.overlap import iou_of


@st.composite
def some_boxes(draw: st.DrawFn) -> np.ndarray:
    """Boxes on a coarse lattice, so that many of them are equal or have equal IoUs."""
    count = draw(st.integers(0, 9))
    lattice = st.integers(0, 6)
    rows = []
    for _ in range(count):
        x1, x2 = sorted((draw(lattice), draw(lattice)))
        y1, y2 = sorted((draw(lattice), draw(lattice)))
        rows.append([x1, y1, x2, y2])
    return np.array(rows, np.float32).reshape(-1, 4)


def classes(boxes: np.ndarray) -> np.ndarray:
    return np.arange(len(boxes), dtype=np.int32) % 2


def test_the_iou_is_torchvisions(regions, smaller) -> None:
    for a, b in zip(regions, smaller, strict=True):
        expected = box_iou(torch.from_numpy(a.boxes).double(), torch.from_numpy(b.boxes).double())
        np.testing.assert_allclose(iou_of(a.boxes, b.boxes), expected, atol=1e-12)


def test_boxes_without_an_area_only_match_their_like() -> None:
    point, other = [[5, 5, 5, 5]], [[6, 6, 6, 6]]
    assert iou_of(np.array(point), np.array(point + other)).tolist() == [[1, 0]]


@given(some_boxes(), some_boxes(), st.sampled_from([0, 0.3, 0.5, 1]))
@settings(max_examples=150, derandomize=True)
def test_no_two_free_boxes_could_still_be_matched(a, b, thresh) -> None:
    pairs = match(a, b, classes(a), classes(b), thresh)
    iou = iou_of(a, b)
    assert len(set(pairs.a)) == len(set(pairs.b)) == len(pairs)
    np.testing.assert_array_equal(pairs.iou, iou[pairs.a, pairs.b])
    assert (pairs.iou >= thresh).all()
    free = np.ones(iou.shape, bool)
    free[pairs.a], free[:, pairs.b] = False, False
    assert not ((iou >= thresh) & (iou > 0) & free).any()


@given(some_boxes(), some_boxes())
@settings(max_examples=150, derandomize=True)
def test_a_stricter_threshold_only_takes_pairs_away(a, b) -> None:
    loose = match(a, b, classes(a), classes(b), 0.2)
    strict = match(a, b, classes(a), classes(b), 0.6)
    kept = [pair for pair in zip(loose.a, loose.b, loose.iou, strict=True) if pair[2] >= 0.6]
    assert list(zip(strict.a, strict.b, strict.iou, strict=True)) == kept


@given(some_boxes(), st.booleans())
@settings(max_examples=100, derandomize=True)
def test_every_box_is_its_own_partner(boxes, labelled) -> None:
    ids = classes(boxes) if labelled else None
    pairs = match(boxes, boxes, ids, ids, 0.5)
    assert pairs.a.tolist() == pairs.b.tolist() == list(range(len(boxes)))
    assert (pairs.iou == 1).all()


def test_of_boxes_at_one_place_those_of_one_class_are_partners() -> None:
    boxes = np.array([[0, 0, 9, 9]] * 2, np.float32)
    ids = np.array([3, 7], np.int32)
    assert match(boxes, boxes, ids, ids[::-1].copy(), 0.5).b.tolist() == [1, 0]
    assert match(boxes, boxes, None, None, 0.5).b.tolist() == [0, 1]


def test_the_highest_iou_is_matched_first() -> None:
    a = np.array([[0, 0, 10, 10], [0, 0, 10, 8]], np.float32)
    b = np.array([[0, 0, 10, 9]], np.float32)
    pairs = match(a, b, None, None, 0.5)
    assert (pairs.a.tolist(), pairs.b.tolist()) == ([0], [0])
    assert pairs.iou[0] == pytest.approx(0.9)
