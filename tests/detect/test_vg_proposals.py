"""Anchors and proposals by the conventions of each preset."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.detect.vg_flavours import caffe_anchors, centered_anchors
from vlray.detect.conventions import CAFFE, PBUA, Conventions
from vlray.detect.visual_genome.proposals import cell_anchors, propose

RATIO_MAJOR = [size * 3 + ratio for ratio in range(3) for size in range(4)]


def test_anchors_are_those_of_the_published_files() -> None:
    caffe = cell_anchors("caffe")[RATIO_MAJOR] - torch.tensor([0, 0, 1, 1])
    assert torch.equal(caffe, caffe_anchors())
    torch.testing.assert_close(cell_anchors("centered"), centered_anchors())


def test_caffe_ends_a_box_at_the_last_pixel_and_drops_small_ones_first() -> None:
    boxes = torch.tensor([[-5.0, -5, 300, 300], [10, 10, 20, 20]])
    logits = torch.tensor([0.0, 9])
    kept, usable = propose(logits, boxes, 100, 200, 1.0, CAFFE)
    assert usable
    assert kept.tolist() == [[0, 0, 199, 99]]
    kept, _ = propose(logits, boxes, 100, 200, 1.0, PBUA)
    assert kept.tolist() == [[10, 10, 20, 20], [0, 0, 200, 100]]


@pytest.mark.parametrize("rules", [CAFFE, PBUA], ids=["caffe", "pbua"])
def test_unusable_boxes_are_dropped_wherever_they_rank(rules: Conventions) -> None:
    apart = [[100.0 * index, 0, 100.0 * index + 50, 50] for index in range(4)]
    beside = [[-9.0, -9, -3, -3], [5000, 0, 5001, 9]]  # nothing is left of them inside the image
    boxes = torch.tensor([beside[0], apart[2], beside[1], apart[0], apart[3], apart[1]])
    logits = torch.tensor([9.0, 8, 7, 6, -8, 5])
    kept, usable = propose(logits, boxes, 400, 400, 1.0, rules)
    assert usable
    assert kept.tolist() == [apart[2], apart[0], apart[1], apart[3]]
    if rules is CAFFE:  # the limit applies to the usable ones only
        kept, _ = propose(logits, boxes, 400, 400, 1.0, replace(rules, pre_nms_topk=2))
        assert kept.tolist() == [apart[2], apart[0]]
    _, usable = propose(logits[:1], boxes[:1], 400, 400, 1.0, rules)
    assert not usable
