"""Anchors and proposals by the conventions of each preset."""

from __future__ import annotations

import torch

from tests.detect.vg_flavours import caffe_anchors, centered_anchors
from vlray.detect.conventions import CAFFE, PBUA
from vlray.detect.visual_genome.proposals import cell_anchors, propose

RATIO_MAJOR = [size * 3 + ratio for ratio in range(3) for size in range(4)]


def test_anchors_are_those_of_the_published_files() -> None:
    caffe = cell_anchors("caffe")[RATIO_MAJOR] - torch.tensor([0, 0, 1, 1])
    assert torch.equal(caffe, caffe_anchors())
    torch.testing.assert_close(cell_anchors("centered"), centered_anchors())


def test_caffe_ends_a_box_at_the_last_pixel_and_drops_small_ones_first() -> None:
    boxes = torch.tensor([[-5.0, -5, 300, 300], [10, 10, 20, 20]])
    logits = torch.tensor([0.0, 9])
    kept = propose(logits, boxes, 100, 200, 1.0, CAFFE)
    assert kept.tolist() == [[0, 0, 199, 99]]
    kept = propose(logits, boxes, 100, 200, 1.0, PBUA)
    assert kept.tolist() == [[10, 10, 20, 20], [0, 0, 200, 100]]
