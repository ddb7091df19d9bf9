"""Selecting again from all proposals gives what the detector itself selects, to the last row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

# isort: off
from tests.detect.detectron_networks import write_network
from vlray.detect.visual_genome.regions import RegionFinder
# isort: on

import torch
from torchvision.ops import batched_nms, box_iou

from vlray.config.detector import DetectorSection
from vlray.detect.load import detector_class, load_detector, resize_of, settled
from vlray.detect.selection import suppression
from vlray.detect.selection.per_class import confidence_of, survivors_of
from vlray.detect.selection.reselect import EVERY, collecting, rule_of
from vlray.detect.selection.rules import BestClass, Proposals, select_one
from vlray.detect.selection.suppression import Suppression
from vlray.detect.visual_genome.shapes import OBJECTS
from vlray.regions.batch import RegionBatch

SETTINGS: list[dict[str, Any]] = [
    {},
    {"score_thresh": 0.0, "min_boxes": 0, "max_boxes": 100},
    {"score_thresh": 0.1, "min_boxes": 2, "max_boxes": 9, "nms_thresh": 0.3},
    {"score_thresh": 0.35, "min_boxes": 0, "max_boxes": 50, "nms_thresh": 0.62},
    {"score_thresh": 0.9, "min_boxes": 40, "max_boxes": 60, "nms_thresh": 0.9},
    {"min_boxes": 25, "max_boxes": 25, "nms_thresh": 0.01},
    {"min_boxes": EVERY, "max_boxes": EVERY, "nms_thresh": 1.0},
]


def photographs(options: DetectorSection) -> list[tuple[list[np.ndarray], np.ndarray]]:
    """Give two photographs as the detector takes them; one side's scale is not the other's."""
    resize = resize_of(options)
    assert resize is not None
    found = []
    for image in (skimage.data.coffee()[60:357, 100:498], skimage.data.astronaut()[:301, :222]):
        bgr = np.ascontiguousarray(image[:, :, ::-1])
        found.append(([resize(bgr)], np.array([bgr.shape[:2]], np.int32)))
    return found


def check(
    options: DetectorSection,
    detect: Callable[[DetectorSection, Any], RegionBatch],
    number: int = 2,
) -> None:
    """Compare the rule's rows with the detector's under every setting.

    Args:
        options: Of the detector.
        detect: Gives the regions that it finds on an image under some options.
        number: Of photographs.
    """
    options = settled(options)
    asked = collecting(options, with_feats=True)
    images = photographs(options)[:number]
    found = RegionBatch.concat([detect(asked, image) for image in images])
    assert found.obj_ids is not None
    assert found.obj_probs is not None
    offsets = np.concatenate([[0], np.cumsum(found.num_boxes)])
    proposals = Proposals(offsets, found.boxes, found.obj_ids, found.obj_probs)
    probs = None
    if options.name == "vg-caffe":
        probs = lambda i: found.visual_feats[offsets[i] : offsets[i + 1], :OBJECTS]  # noqa: E731 - used once, here
    rule = rule_of(options.name, proposals, probs)
    rule.remember()
    numbers = set()
    for values in SETTINGS:
        one = options.model_copy(update={"nms_thresh": 0.0, **values})
        direct = RegionBatch.concat([detect(settled(one), image) for image in images])
        rows, counts = rule.select(one)
        np.testing.assert_array_equal(counts, direct.num_boxes)
        np.testing.assert_array_equal(found.boxes[rows], direct.boxes)
        np.testing.assert_array_equal(found.obj_ids[rows], direct.obj_ids)
        np.testing.assert_array_equal(found.obj_probs[rows], direct.obj_probs)
        dim = direct.visual_feats.shape[1]
        np.testing.assert_array_equal(found.visual_feats[rows][:, -dim:], direct.visual_feats)
        assert direct.attr_ids is None or (found.attr_ids[rows] == direct.attr_ids).all()
        numbers.add(tuple(counts))
    assert len(numbers) >= 5  # the settings do differ in what they keep


def built_anew(options: DetectorSection, image: Any) -> RegionBatch:
    return load_detector(options)(*image)


def test_lite_is_selected_again() -> None:
    check(DetectorSection(device="cpu"), built_anew)


@pytest.mark.parametrize("kind", ["FPN", "conv_head"])  # a box for each class, and one for all
def test_a_detectron2_network_is_selected_again(kind: str, tmp_path: Path) -> None:
    check(write_network(tmp_path, kind).options(), built_anew)


@pytest.mark.parametrize("preset", ["vg-caffe", "vg-pbua"])
def test_the_visual_genome_detector_is_selected_again(preset: str, vg_weights_file: Path) -> None:
    options = DetectorSection(
        name=preset,
        weights=str(vg_weights_file),
        device="cpu",
        min_size=96,
        max_size=160,
        post_nms_topk=40,
    )
    loaded: list[Any] = []

    def detect(one: DetectorSection, image: Any) -> RegionBatch:
        if not loaded:  # all proposals come first
            loaded.append(load_detector(one))
            return loaded[0](*image)
        if one.max_boxes == EVERY and one.min_boxes == 0:
            return loaded[0](*image)
        rules = detector_class(options).rules(one)  # type: ignore[attr-defined] # of vg-* alone
        return RegionFinder(loaded[0]._find._network, rules, one)(*image)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(vg_weights_file.parent / "cache of reselect"))
        check(options, detect, number=1)


@st.composite
def many_images(draw: st.DrawFn) -> Proposals:
    """Proposals on a coarse grid, so that boxes, scores and IoUs are often equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = rng.integers(0, 40, draw(st.integers(1, 6)))
    total = int(counts.sum())
    corners = rng.integers(0, 30, (total, 2))
    boxes = np.concatenate([corners, corners + rng.integers(0, 30, (total, 2))], 1)
    return Proposals(
        np.concatenate([[0], np.cumsum(counts)]),
        boxes.astype(np.float32),
        rng.integers(0, draw(st.integers(1, 4)), total),
        (rng.integers(0, 11, total) / 10).astype(np.float32),
    )


@settings(max_examples=150)
@given(many_images(), st.sampled_from([0.1, 0.3, 0.5, 0.7]), st.booleans(), st.booleans())
def test_suppression_is_torchvisions(
    proposals: Proposals, thresh: float, small: bool, remember: bool
) -> None:
    order = np.lexsort((-proposals.scores, proposals.images))
    boxes = proposals.boxes[order].astype(np.float64)
    groups = proposals.images[order] * 10 + proposals.obj_ids[order]
    with pytest.MonkeyPatch.context() as patch:
        if small:  # as if there were too many to be compared, or remembered, at once
            patch.setattr(suppression, "_PAIRS", 50)
            patch.setattr(suppression, "_KEPT", 100)
        found = Suppression(boxes, groups)
        if remember:
            found.remember()
        survives = found.survivors(thresh)
    ranks = torch.arange(len(boxes), 0, -1, dtype=torch.float64)
    kept = batched_nms(torch.from_numpy(boxes), ranks, torch.from_numpy(groups), thresh)
    assert np.flatnonzero(survives).tolist() == sorted(kept.tolist())


@settings(max_examples=150)
@given(
    many_images(),
    st.integers(1, 40),
    st.integers(0, 40),
    st.sampled_from([0.0, 0.2, 0.5]),
    st.sampled_from([0.0, 0.3, 0.6, 1.0]),
    st.booleans(),
)
def test_many_images_are_selected_as_each_alone(
    proposals: Proposals, most: int, least: int, score: float, nms: float, pbua: bool
) -> None:
    options = DetectorSection(
        max_boxes=most, min_boxes=min(least, most), score_thresh=score, nms_thresh=nms
    )
    kind: dict[str, Any] = {"nms_thresh": (0.2, 0.5, 0.7), "within_class": False, "filled": False}
    kind = kind if pbua else {}
    rows, counts = BestClass(proposals, **kind).select(options)
    ends = np.cumsum(counts)
    for image, (start, end) in enumerate(zip(ends - counts, ends, strict=True)):
        of = slice(proposals.offsets[image], proposals.offsets[image + 1])
        one = select_one(
            proposals.boxes[of], proposals.obj_ids[of], proposals.scores[of], options, **kind
        )
        assert (rows[start:end] - of.start).tolist() == one.tolist()


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.3, 0.6]), st.sampled_from([1, 50]))
def test_the_best_class_that_survives_is_that_of_all_classes(
    seed: int, thresh: float, steps: int
) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    corners = rng.integers(0, 40, (count, 2))
    boxes = np.concatenate([corners, corners + rng.integers(1, 40, (count, 2))], 1).astype(float)
    logits = np.repeat(rng.normal(size=(count // 4 + 1, 40)), 4, axis=0)[:count] * 3
    probs = torch.softmax(torch.from_numpy(logits + rng.normal(size=logits.shape) * 0.5), 1).float()
    if steps > 1:
        probs = (probs * steps).round() / steps  # many are equal, most of them 0
    tensor = torch.from_numpy(boxes)
    every = (probs * survivors_of(box_iou(tensor, tensor) > thresh, probs)).amax(1)
    found = confidence_of(boxes, probs.numpy(), thresh)
    np.testing.assert_array_equal(found, every.numpy())


def test_images_without_proposals_give_no_regions() -> None:
    nothing = Proposals(
        np.zeros(3, np.int64),
        np.zeros((0, 4), np.float32),
        np.zeros(0, int),
        np.zeros(0, np.float32),
    )
    for name, probs in (("lite", None), ("vg-pbua", None), ("vg-caffe", np.zeros((0, 3), "f"))):
        rule = rule_of(name, nothing, None if probs is None else lambda _, p=probs: p)
        rule.remember()
        rows, counts = rule.select(DetectorSection())
        assert (rows.tolist(), counts.tolist()) == ([], [0, 0])
