"""Anchors and proposals of the Visual Genome detector, under a preset's conventions.

Shapes: A: anchors per cell; M: anchors of the whole map; P: selected proposals.
"""

from __future__ import annotations

import functools
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.ops import nms

from vlray.detect.conventions import Conventions
from vlray.detect.visual_genome.shapes import ANCHORS, RATIOS, SIZES, caffe_anchors, d2_anchors

STRIDE = 16
_SCALE_CLAMP = math.log(1000 / 16)  # as in Detectron2


@functools.cache
def cell_anchors(kind: str) -> Float[Tensor, "A 4"]:
    """Return the 12 anchors of the first cell, size-major.

    The right and lower edges of Caffe's anchors are moved out by one pixel, so that ``x2 - x1`` is
    an anchor's width.

    Source:
        lib/rpn/generate_anchors.py of py-faster-rcnn; DefaultAnchorGenerator of Detectron2.
    """
    if kind == "centered":
        return torch.tensor(d2_anchors())
    # Reordered from ratio-major to size-major, as in Detectron2.
    table = torch.tensor(caffe_anchors()).view(len(RATIOS), SIZES, 4).transpose(0, 1)
    return table.reshape(ANCHORS, 4) + torch.tensor([0, 0, 1, 1])


def anchors_of(kind: str, height: int, width: int) -> Float[Tensor, "M 4"]:
    """Return the anchors of a map, row by row, with the 12 anchors of a cell together."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    shifts = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4) * STRIDE
    return (shifts + cell_anchors(kind)).reshape(-1, 4)


def decode(
    deltas: Float[Tensor, "*M 4"], boxes: Float[Tensor, "*M 4"], clamp: bool
) -> Float[Tensor, "*M 4"]:
    """Apply box deltas ``(dx, dy, dw, dh)``: center offsets relative to the sides, and log scales.

    Source:
        R-CNN (arXiv:1311.2524), appendix C.
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    centers = boxes[..., :2] + 0.5 * sides
    centers = centers + deltas[..., :2] * sides
    growth = deltas[..., 2:].clamp(max=_SCALE_CLAMP) if clamp else deltas[..., 2:]
    half = 0.5 * growth.exp() * sides
    return torch.cat([centers - half, centers + half], dim=-1)


def clip(
    boxes: Float[Tensor, "*M 4"], height: float, width: float, plus_one: bool
) -> Float[Tensor, "*M 4"]:
    """Clip boxes to an image: with ``plus_one``, to ``width - 1`` and ``height - 1``."""
    # Numbers as arguments, because a tensor of them would have to be copied to the device.
    x = boxes[..., 0::2].clamp(0, width - int(plus_one))
    y = boxes[..., 1::2].clamp(0, height - int(plus_one))
    return torch.stack([x, y], dim=-1).flatten(-2)


def widened(boxes: Float[Tensor, "P 4"], plus_one: bool) -> Float[Tensor, "P 4"]:
    """With ``plus_one``, move right and lower edges out by 1: plain IoU then equals Caffe's."""
    return torch.cat([boxes[:, :2], boxes[:, 2:] + 1], dim=1) if plus_one else boxes


def propose(
    logits: Float[Tensor, " M"],
    boxes: Float[Tensor, "M 4"],
    height: int,
    width: int,
    scale: float,
    rules: Conventions,
) -> tuple[Float[Tensor, "P 4"], Bool[Tensor, ""]]:
    """Select the proposals of one image, in descending order of objectness.

    On a GPU, only NMS makes the host wait: until then, unusable boxes stay among the others.

    Args:
        logits: Objectness logit of each anchor.
        boxes: Each anchor's regressed box, in pixels of the resized image, not clipped.
        height: Height of the resized image.
        width: Width of the resized image.
        scale: Pixels of the resized image per pixel of the original image.
        rules: Conventions of the preset.

    Returns:
        The proposals, and whether any box was usable; if none was, there is one meaningless
        proposal.
    """
    if rules.min_side:
        boxes = clip(boxes, height, width, rules.plus_one)
        sides = boxes[:, 2:] - boxes[:, :2] + int(rules.plus_one)
        usable = (sides >= rules.min_side * scale).all(dim=1)
        # The large boxes come first, by their logits, and the limit applies to them only.
        logits = logits.masked_fill(~usable, -torch.inf)
        order = logits.argsort(descending=True, stable=True)[: rules.pre_nms_topk]
        boxes, usable = boxes[order], usable[order]
    else:
        order = logits.argsort(descending=True, stable=True)[: rules.pre_nms_topk]
        boxes = clip(boxes[order], height, width, rules.plus_one)
        usable = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    # The best usable box takes the place of all unusable ones, and therefore suppresses them.
    best = boxes.index_select(0, usable.byte().argmax(dim=0, keepdim=True))
    boxes = boxes.where(usable[:, None], best)
    # Ranks replace the logits as scores, so that equal logits keep their order on any device.
    ranks = torch.arange(len(boxes), 0, -1, dtype=boxes.dtype, device=boxes.device)
    survivors = nms(widened(boxes, rules.plus_one), ranks * usable, rules.rpn_nms_thresh)
    return boxes[survivors[: rules.post_nms_topk]], usable.any()
