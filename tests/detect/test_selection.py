"""What of an image's proposals is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from vlray.config.detector import DetectorSection
from vlray.detect.selection import boxes_of_class, select_regions
from vlray.detect.selection.rules import BestClass, Proposals


def options(**values: float) -> DetectorSection:
    return DetectorSection.model_validate(
        {"min_boxes": 0, "max_boxes": 100, "nms_thresh": 0.5, **values}
    )


@st.composite
def proposals(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (per class or per proposal) and probabilities, with ties, overlaps and NaN."""
    count, classes = draw(st.integers(0, 40)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (count, classes, 2) if draw(st.booleans()) else (count, 2)
    corners = rng.integers(0, 40, shape)  # a coarse grid: boxes often coincide
    boxes = np.concatenate([corners, corners + rng.integers(0, 30, shape)], -1).astype(np.float32)
    probs = rng.dirichlet(np.ones(classes + 1), count)[:, :classes].astype(np.float32)
    if draw(st.booleans()):
        probs = probs.round(1)
    if draw(st.booleans()):
        boxes[rng.random(boxes.shape) < 0.03] = rng.choice([np.nan, np.inf, -np.inf])
        probs[rng.random(probs.shape) < 0.03] = np.nan
    return torch.from_numpy(boxes), torch.from_numpy(probs)


@st.composite
def sections(draw: st.DrawFn) -> DetectorSection:
    most = draw(st.integers(1, 45))
    return options(
        max_boxes=most,
        min_boxes=draw(st.integers(0, most)),
        score_thresh=draw(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9])),
        nms_thresh=draw(st.sampled_from([0.1, 0.3, 0.5, 0.7, 1.0])),
    )


def reference(boxes: torch.Tensor, probs: torch.Tensor, section: DetectorSection) -> list[int]:
    """The rule written as one loop over proposals, without torchvision's suppression."""
    scores, classes = probs.max(1)
    chosen = boxes_of_class(boxes, classes).double()
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda i: (-scores[i].nan_to_num(-1), i)):
        x1, y1, x2, y2 = chosen[index]
        if not (
            chosen[index].isfinite().all() and scores[index].isfinite() and x2 > x1 and y2 > y1
        ):
            continue
        rivals = [other for other in kept if classes[other] == classes[index]]
        overlap = box_iou(chosen[index, None], chosen[rivals]) if rivals else torch.zeros(1, 1)
        if (overlap <= section.nms_thresh + 1e-9).all():
            kept.append(index)
    above = sum(float(scores[index]) >= np.float32(section.score_thresh) for index in kept)
    return kept[: min(max(above, section.min_boxes), section.max_boxes)]


@settings(max_examples=300, deadline=None)
@given(proposals(), sections())
def test_selection_follows_its_rule(
    case: tuple[torch.Tensor, torch.Tensor], section: DetectorSection
) -> None:
    boxes, probs = case
    assume(not len(probs) or not probs.isnan().any(dim=1).all())  # a test of its own
    indices, obj_ids, obj_probs = select_regions(boxes, probs, section)
    if len(probs):
        assert indices.tolist() == reference(boxes, probs, section)
    survivors = len(
        select_regions(
            boxes, probs, section.model_copy(update={"max_boxes": 1000, "min_boxes": 1000})
        )[0]
    )
    assert min(section.min_boxes, survivors) <= len(indices) <= section.max_boxes
    assert len(set(indices.tolist())) == len(indices)
    assert obj_probs.isfinite().all()
    assert (obj_probs.diff() <= 0).all()
    assert torch.equal(probs[indices, obj_ids], obj_probs)
    kept = boxes_of_class(boxes[indices], obj_ids)
    assert kept.isfinite().all()
    same_class = obj_ids[:, None] == obj_ids[None]
    overlap = box_iou(kept.double(), kept.double()).fill_diagonal_(0)
    assert (overlap[same_class] <= section.nms_thresh + 1e-9).all()


def test_a_thousand_proposals_of_many_classes_are_suppressed_exactly() -> None:
    # 1,600 classes of a 1,333-pixel image: float32 offsets between classes would be off by 0.125.
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 900, (1000, 2))
    boxes = torch.from_numpy(np.concatenate([corners, corners + rng.uniform(1, 400, (1000, 2))], 1))
    boxes = boxes.float()
    probs = torch.zeros(1000, 1600)
    probs[torch.arange(1000), torch.from_numpy(rng.choice([3, 1598], 1000))] = torch.rand(1000)
    section = options(max_boxes=1000, min_boxes=1000)
    assert select_regions(boxes, probs, section)[0].tolist() == reference(boxes, probs, section)


def test_equal_scores_keep_the_order_of_the_proposals() -> None:
    boxes = torch.tensor([[i * 10.0, 0.0, i * 10 + 9.0, 9.0] for i in range(50)])
    probs = torch.full((50, 2), 0.5)
    indices, obj_ids, _ = select_regions(boxes, probs, options())
    assert indices.tolist() == list(range(50))
    assert obj_ids.tolist() == [0] * 50


def test_a_box_class_is_regressed_for_the_best_class() -> None:
    boxes = torch.tensor([[[0.0, 0, 1, 1], [5, 5, 9, 9]]])
    assert boxes_of_class(boxes, torch.tensor([1])).tolist() == [[5, 5, 9, 9]]


@pytest.mark.parametrize("count", [0, 3])
def test_an_image_may_have_no_regions(count: int) -> None:
    indices, obj_ids, obj_probs = select_regions(
        torch.tensor([[0.0, 0, 5, 5]]).repeat(count, 1), torch.full((count, 2), 0.1), options()
    )
    assert (len(indices), len(obj_ids), len(obj_probs)) == (0, 0, 0)
    assert indices.dtype == obj_ids.dtype == torch.int64


def test_low_scores_fill_up_to_min_boxes() -> None:
    boxes = torch.tensor([[i * 10.0, 0.0, i * 10 + 9.0, 9.0] for i in range(5)])
    probs = torch.tensor([[0.9], [0.01], [0.05], [0.02], [0.03]])
    assert select_regions(boxes, probs, options(min_boxes=3))[0].tolist() == [0, 2, 4]
    assert select_regions(boxes, probs, options(min_boxes=9, max_boxes=9))[0].tolist() == [
        0,
        2,
        4,
        3,
        1,
    ]
    assert select_regions(boxes, probs, options(max_boxes=1))[0].tolist() == [0]


def test_a_network_whose_scores_are_nan_is_an_error_not_an_image_without_regions() -> None:
    boxes = np.tile(np.float32([0, 0, 9, 9]), (3, 1))
    proposals = Proposals(
        np.array([0, 3]), boxes, np.zeros(3, np.int32), np.full(3, np.nan, np.float32)
    )
    with pytest.raises(ValueError, match="all scores are NaN: the weights have non-finite"):
        BestClass(proposals)
