"""Anchors and box regression of maskrcnn-benchmark: boxes name their last pixel inside.

Shapes: A: anchors per cell; P: anchors or proposals of one image.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vlray.detect.vmb.config import Layout

_LARGEST = math.log(1000 / 16)


def cell_anchors(layout: Layout) -> list[Float[Tensor, "A 4"]]:
    """Compute the anchors of the first cell of each level, one for each aspect ratio.

    As in py-faster-rcnn, the box of one cell is given each ratio, with sides in whole pixels, and
    then enlarged; its centre is that of the cell's pixels.
    """
    tables = []
    for stride, size in zip(layout.anchor_strides, layout.anchor_sizes, strict=True):
        ratios = np.array(layout.aspect_ratios, float)
        widths = np.round(np.sqrt(stride * stride / ratios))
        heights = np.round(widths * ratios)
        halves = (np.stack([widths, heights], axis=1) * (size / stride) - 1) / 2
        centre = (stride - 1) / 2
        corners = np.concatenate([centre - halves, centre + halves], axis=1)
        tables.append(torch.from_numpy(corners).float())
    return tables


def grid_anchors(
    table: Float[Tensor, "A 4"], height: int, width: int, stride: int
) -> Float[Tensor, "P 4"]:
    """Repeat a cell's anchors over a map, row by row."""
    y, x = torch.meshgrid(
        torch.arange(height, device=table.device) * float(stride),
        torch.arange(width, device=table.device) * float(stride),
        indexing="ij",
    )
    shifts = torch.stack([x, y, x, y], dim=-1).view(-1, 1, 4)
    return (shifts + table).reshape(-1, 4)


def decode(deltas: Float[Tensor, "P 4"], anchors: Float[Tensor, "P 4"]) -> Float[Tensor, "P 4"]:
    """Apply box regression."""
    sides = anchors[:, 2:] - anchors[:, :2] + 1
    centres = anchors[:, :2] + 0.5 * sides
    centres = deltas[:, :2] * sides + centres
    sides = deltas[:, 2:].clamp(max=_LARGEST).exp() * sides
    return torch.cat([centres - 0.5 * sides, centres + 0.5 * sides - 1], dim=1)


def clip(boxes: Float[Tensor, "P 4"], height: int, width: int) -> Float[Tensor, "P 4"]:
    """Clip boxes to the pixels of an image."""
    limit = boxes.new_tensor([width - 1, height - 1]).repeat(2)
    return boxes.clamp(min=torch.zeros_like(limit), max=limit)
