"""What the Visual Genome detector gives, by the conventions of each preset."""

from __future__ import annotations

import base64
import csv
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from torchvision.ops import box_iou, nms

import vlray
from vlray.config.detector import DetectorSection
from vlray.detect import notebook
from vlray.detect.conventions import CAFFE, PBUA
from vlray.detect.selection.per_class import survivors_of
from vlray.detect.visual_genome.model import build_vg
from vlray.detect.visual_genome.proposals import clip
from vlray.detect.visual_genome.regions import RegionFinder
from vlray.detect.visual_genome.selection import best_class, each_class
from vlray.images.decode import as_bgr
from vlray.images.resize import ResizeLikeCaffe
from vlray.regions.batch import RegionBatch

PREDICTOR = "roi_heads.box_predictor"
ROWS = [  # ten boxes beside each other, by falling objectness
    [100.0 * index, 0.0, 100.0 * index + 50, 50.0] for index in range(10)
]


@pytest.fixture(scope="module")
def photographs(photos: Path) -> list[np.ndarray]:
    """Give four of one size, two of them turned about."""
    images = [as_bgr(photos / name)[:300, :400, ::-1] for name in ("coffee.png", "astronaut.png")]
    return [*images, images[0][:, ::-1], images[1][::-1]]


@pytest.fixture(scope="module")
def weights(vg_weights_file: Path) -> Iterator[Path]:
    """Give the weights; networks that were made of them are forgotten afterwards."""
    yield vg_weights_file
    notebook._load.cache_clear()


def options(name: str, **values: Any) -> DetectorSection:
    return DetectorSection(name=name, device="cpu", **values)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 70), thresh=st.sampled_from([0.1, 0.3]))
def test_suppression_is_that_of_one_nms_foreach_class(seed: int, count: int, thresh: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 60, (count, 2), generator=generator).double()
    sides = torch.randint(1, 60, (count, 2), generator=generator).double()
    boxes = torch.cat([corners, corners + sides], 1)
    probs = torch.rand(count, 5, generator=generator)
    found = survivors_of(box_iou(boxes, boxes) > thresh, probs)
    for index in range(5):
        kept = nms(boxes, probs[:, index].double(), thresh)
        assert found[:, index].nonzero().flatten().tolist() == sorted(kept.tolist())


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((1, 10), [1, 3, 5, 7, 9]),  # within the limits: as proposed
        ((5, 5), [1, 3, 5, 7, 9]),
        ((6, 10), [9, 7, 5, 3, 1, 8]),  # too few or too many: the most confident
        ((1, 3), [9, 7, 5]),
    ],
)
def test_caffe_sorts_regions_only_where_their_number_is_clamped(
    limits: tuple[int, int], expected: list[int]
) -> None:
    confidence = np.array([0.01, 0.2, 0.02, 0.3, 0.03, 0.4, 0.04, 0.5, 0.05, 0.6], np.float32)
    probs = np.stack([confidence / 2, confidence], 1)
    section = options("vg-caffe", min_boxes=limits[0], max_boxes=limits[1])
    found = each_class(np.array(ROWS, np.float32), probs, CAFFE, section)
    assert found.tolist() == expected


def test_a_region_that_loses_its_best_class_stays_by_another() -> None:
    boxes = np.array([[0, 0, 99, 99], [0, 0, 99, 90]], np.float32)
    probs = np.array(
        [[0.8, 0.1], [0.7, 0.3]], np.float32
    )  # the second survives in its second class
    section = options("vg-caffe", min_boxes=0, max_boxes=10, score_thresh=0.25)
    assert each_class(boxes, probs, CAFFE, section).tolist() == [0, 1]
    section = options("vg-caffe", min_boxes=0, max_boxes=10, score_thresh=0.35)
    assert each_class(boxes, probs, CAFFE, section).tolist() == [0]


def test_overlap_counts_whole_pixels_under_caffe() -> None:
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 2]], np.float32)  # 30 of 100 pixels, not 18 of 81
    probs = np.array([[0.8], [0.7]], np.float32)
    section = options("vg-caffe", min_boxes=0, max_boxes=10)
    strict = replace(CAFFE, nms_thresh=(0.29,))
    assert each_class(boxes, probs, strict, section).tolist() == [0]
    assert each_class(boxes, probs, replace(strict, plus_one=False), section).tolist() == [0, 1]


def test_pbua_tries_higher_thresholds_until_there_are_enough() -> None:
    # Each covers 0.55, 0.65, ... of the first.
    boxes = np.array([[0, 0, 100, high] for high in (100, 55, 65, 75, 85, 95)], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4], np.float32)

    def found(number: int) -> list[int]:
        section = options("vg-pbua", min_boxes=number, max_boxes=number)
        return best_class(boxes, scores, PBUA, section).tolist()

    assert found(1) == [0]
    assert found(2) == [0, 1]
    assert len(found(3)) == 3
    assert (
        found(6)
        == best_class(
            boxes, scores, replace(PBUA, nms_thresh=(0.9,)), options("vg-pbua", min_boxes=6)
        ).tolist()
    )  # never reached: the last threshold's, and fewer
    assert len(found(6)) < 6


@given(height=st.integers(2, 3000), width=st.integers(2, 3000))
def test_the_last_pixel_of_a_resized_image_lies_inside_the_original(
    height: int, width: int
) -> None:
    resize = ResizeLikeCaffe(600, 1000)
    scale = resize.scale(height, width)
    last = [max(round(side * scale), 1) - 1 for side in (width, height)]
    box = torch.tensor([[0, 0, *last]]) / torch.tensor(scale)
    assert torch.equal(clip(box, height, width, plus_one=False), box)


def published(shared: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    csv.field_size_limit(sys.maxsize)
    with (shared / "fixtures" / "butd" / "train2014_obj36.tsv").open() as file:
        row = next(row for row in csv.reader(file, delimiter="\t") if row[0] == name)
    arrays = (np.frombuffer(base64.b64decode(row[index]), np.float32) for index in (8, 9))
    boxes, visual_feats = arrays
    return boxes.reshape(36, 4), visual_feats.reshape(36, 2048)


@pytest.mark.parametrize("source", ["published", "vg-caffe"])
@pytest.mark.parametrize("name", ["COCO_train2014_000000207647", "COCO_train2014_000000573195"])
def test_regions_of_a_photograph_are_made_by_caffes_rules(
    source: str, name: str, shared: Path, weights: Path
) -> None:
    photograph = as_bgr(shared / "fixtures" / "butd" / f"{name}.jpg")
    height, width = photograph.shape[:2]
    size = (600, 1000)
    if source == "published":
        boxes, visual_feats = published(shared, name)
    else:
        size = (300, 500)  # the rules are the same, and it takes a quarter of the time
        found = vlray.find_regions(
            photograph[..., ::-1],
            "vg-caffe",
            weights=str(weights),
            device="cpu",
            min_size=size[0],
            max_size=size[1],
        )
        boxes, visual_feats = found.boxes, found.visual_feats
    scale = ResizeLikeCaffe(*size).scale(height, width)
    limits = [(round(side * scale) - 1) / scale for side in (width, height)]
    assert boxes.shape == (36, 4)
    assert boxes.min() == 0
    np.testing.assert_allclose(boxes[:, 2:].max(axis=0), limits, rtol=2e-7)
    resized = torch.from_numpy(boxes * scale).double()
    # Suppressed were those that overlap by more than 0.7, in pixels of the resized image.
    whole = resized + torch.tensor([0, 0, 1, 1])
    assert (box_iou(whole, whole) - torch.eye(36)).max() <= 0.7 + 1e-5
    assert ((resized[:, 2:] - resized[:, :2] + 1) >= 16 * scale - 1e-3).all()
    assert visual_feats.min() >= 0


@pytest.mark.parametrize("background", [True, False])
def test_attributes_are_scored_with_their_background_or_without(
    background: bool, photographs: list[np.ndarray], weights: Path
) -> None:
    state = load_file(weights)
    rules = replace(CAFFE, min_size=160, max_size=240, attribute_background=background)
    section = options("vg-caffe", post_nms_topk=20, min_boxes=20, max_boxes=20)
    finder = RegionFinder(build_vg(state, "fp32"), replace(rules, post_nms_topk=20), section)
    image = photographs[0]
    found = finder(
        [ResizeLikeCaffe(160, 240)(np.ascontiguousarray(image))],
        np.array([image.shape[:2]], np.int32),
    )

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{PREDICTOR}.{name}.weight"].T + state[f"{PREDICTOR}.{name}.bias"]

    x = torch.from_numpy(found.visual_feats)
    classes = linear("cls_score", x).argmax(dim=1)
    embedded = state[f"{PREDICTOR}.cls_embedding.weight"][classes]
    scores = linear("attr_score", linear("fc_attr", torch.cat([x, embedded], 1)).relu())
    probs = scores.softmax(1)[:, :-1] if background else scores[:, :-1].softmax(1)
    assert found.attr_ids is not None
    np.testing.assert_array_equal(found.attr_ids, probs.argmax(1))
    np.testing.assert_allclose(found.attr_probs, probs.amax(1), rtol=1e-4)


@pytest.mark.parametrize("preset", ["vg-caffe", "vg-pbua"])
def test_a_batch_of_eight_gives_the_rows_of_each_image_alone(
    preset: str, photographs: list[np.ndarray], weights: Path
) -> None:
    common: dict[str, Any] = {"weights": str(weights), "device": "cpu", "batch_size": 8}
    common |= {"min_size": 96, "max_size": 160, "post_nms_topk": 6, "max_boxes": 5}
    images = [np.ascontiguousarray(image) for image in [*photographs, *photographs[::-1]]]
    together = vlray.find_regions(images, preset, **common)
    alone = RegionBatch.concat([vlray.find_regions(image, preset, **common) for image in images])
    assert_same_rows(together, alone)


def assert_same_rows(one: RegionBatch, two: RegionBatch) -> None:
    """Compare to 1e-5; scores and ids follow."""
    np.testing.assert_array_equal(one.num_boxes, two.num_boxes)
    np.testing.assert_array_equal(one.obj_ids, two.obj_ids)
    np.testing.assert_array_equal(one.attr_ids, two.attr_ids)
    distance = np.linalg.norm(one.visual_feats - two.visual_feats, axis=1)
    assert (distance / np.linalg.norm(two.visual_feats, axis=1)).max() < 1e-5
    np.testing.assert_allclose(one.boxes, two.boxes, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(one.obj_probs, two.obj_probs, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(one.attr_probs, two.attr_probs, rtol=1e-3, atol=1e-5)
