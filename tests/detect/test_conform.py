"""What a detector of one's own got wrong is said at its first use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vlray.config.detector import DetectorSection
from vlray.detect.conform import build_detector, check_regions
from vlray.detect.protocol import DetectorInfo
from vlray.regions.batch import RegionBatch

INFO = DetectorInfo("mine", feature_dim=3, obj_names=("cat", "dog"))
HW = np.array([(480, 640), (100, 50)], np.int32)
GOOD = RegionBatch(
    image_hw=HW,
    num_boxes=np.array([1, 2], np.int32),
    boxes=np.array([[0, 0, 640, 480], [1, 2, 3, 4], [0, 0, 50, 100]], np.float32),
    visual_feats=np.ones((3, 3), np.float32),
    obj_ids=np.array([0, 1, 1], np.int32),
    obj_probs=np.ones(3, np.float32),
)


def changed(name: str, row: int, value: Any) -> RegionBatch:
    values = getattr(GOOD, name).copy()
    values[row] = value
    return replace(GOOD, **{name: values})


def test_good_regions_pass_and_so_do_none_at_all() -> None:
    check_regions(GOOD, HW, INFO)
    check_regions(replace(GOOD, visual_feats=GOOD.visual_feats.astype(np.float16)), HW, INFO)
    check_regions(changed("boxes", 0, [-0.001, 0, 640.001, 480]), HW, INFO)  # rounding
    nothing = RegionBatch(
        HW[:1], np.zeros(1, np.int32), np.zeros((0, 4), np.float32), np.zeros((0, 3), np.float32)
    )
    check_regions(nothing, HW[:1], replace(INFO, obj_names=()))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1, 2], "returned list, not a RegionBatch"),
        (replace(GOOD, image_hw=HW[::-1]), r"return it unchanged"),
        (next(iter(GOOD)), r"received image_hw=\[\["),
        (changed("boxes", 2, [0, 0, 50, 480]), r"\[0.* \(region 1 of image 1\) .* 50x100 pixels"),
        (changed("boxes", 0, [-3, 0, 5, 5]), r"box \[-3\.0.* \(region 0 of image 0\)"),
        (changed("boxes", 1, [5, 5, 1, 9]), r"\(region 0 of image 1\) is invalid or outside"),
        (changed("boxes", 1, np.nan), r"\(region 0 of image 1\) is invalid or outside"),
        (
            changed("visual_feats", 2, np.inf),
            "visual_feats contains NaN or inf in region 1",
        ),
        (changed("obj_probs", 1, np.nan), "obj_probs contains NaN or inf in region 0 of image 1"),
        (changed("obj_ids", 1, 2), "obj_ids range from 0 to 2, but info.obj_names has 2 names"),
        (changed("obj_ids", 1, -1), "obj_ids range from -1"),
        (replace(GOOD, obj_ids=None), "must all be present or all be absent"),
        (
            replace(GOOD, attr_ids=GOOD.obj_ids, attr_probs=GOOD.obj_probs),
            "info.attr_names must all",
        ),
        (replace(GOOD, visual_feats=np.ones((3, 4), np.float32)), r"instead of \(3, 3\)"),
        (
            replace(GOOD, boxes=GOOD.boxes.astype(int)),
            "boxes has the type ndarray int64; .*of floats",
        ),
        (replace(GOOD, obj_ids=GOOD.obj_probs), "obj_ids has the type ndarray float32; .*integers"),
        (replace(GOOD, num_boxes=np.array([4, -1], np.int32)), "return one count per image"),
    ],
)
def test_invalid_regions_are_named(batch: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_regions(batch, HW, INFO)


@pytest.mark.parametrize("change", [lambda b: b[::-1], lambda b: b[:1], lambda b: b + 1e-3])
def test_given_boxes_come_back_all_of_them_and_in_their_order(change: Any) -> None:
    # A pixel beyond the image, as given boxes may be and found ones not.
    boxes = np.array([[0, 0, 641, 480], [1, 2, 3, 4], [0, 0, 50, 100]], np.float32)
    regions = replace(GOOD, boxes=boxes)
    check_regions(regions, HW, INFO, [boxes[:1], boxes[1:]])
    with pytest.raises(ValueError, match=r"boxes per image: received 1, ., returned"):
        check_regions(regions, HW, INFO, [boxes[:1], change(boxes[1:]).astype(np.float32)])


class WithoutInfo:
    def __init__(self, options: DetectorSection) -> None:
        pass

    def __call__(self) -> None:
        pass


class WithoutOptions(WithoutInfo):
    def __init__(self) -> None:
        pass


class WithoutCall:
    info = INFO

    def __init__(self, options: DetectorSection) -> None:
        pass


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (WithoutInfo, "info must be a DetectorInfo, but is None"),
        (WithoutOptions, "cannot be created with the options"),
        (WithoutCall, "has no method __call__"),
        (len, "must be a class"),
    ],
)
def test_a_class_that_does_not_conform_gets_an_example(cls: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build_detector(cls, DetectorSection(), "mine.py:Mine")
    assert "mine.py:Mine" in str(error.value)
    assert "class Mine:" in str(error.value)
