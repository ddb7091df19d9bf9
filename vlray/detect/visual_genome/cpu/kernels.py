"""Entry point to the CPU kernels: replaces the slow parts of a network that runs on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlray.detect.visual_genome.cpu.fused import can_fuse, fuse_blocks
from vlray.detect.visual_genome.cpu.pool import RoiPool
from vlray.detect.visual_genome.cpu.res5 import Res5
from vlray.detect.visual_genome.cpu.winograd import WinogradMapConv

PoolRes5 = Callable[[Float[Tensor, "1 C H W"], Float[Tensor, "R 4"], int, float], Tensor]
"""Function that pools R boxes from one feature map and runs res5 on them.

Its arguments are the map, the boxes in pixels of the resized image, the number of bins per side and
the map's cells per pixel. It returns R float32 vectors.
"""


def use_kernels(
    stages: Sequence[nn.Module],
    rpn_head: Any,
    res5: nn.Module,
    map_hw: Sequence[Sequence[int]],
    dtype: torch.dtype,
) -> PoolRes5 | None:
    """Replace a network's modules in place with faster ones, equal up to a relative error of 4e-7.

    Args:
        stages: Stages of the backbone before res5, in float32.
        rpn_head: Head of the region proposal network; its 3x3 convolution is replaced.
        res5: The last stage, in ``dtype``.
        map_hw: Usual height and width of each stage's input map; other sizes work more slowly.
        dtype: Precision of res5.

    Returns:
        A function for pooling and res5, or None if this processor has no fused kernels for
        ``dtype``.
    """
    rpn_head.conv = WinogradMapConv(rpn_head.conv)
    if can_fuse(torch.float32):  # the backbone is in float32 for any precision of res5
        for stage, (height, width) in zip(stages, map_hw, strict=True):
            fuse_blocks(stage, 1, height, width)
    if not can_fuse(dtype):
        return None
    fast_res5 = Res5(res5)

    def pool(plane: Tensor, boxes: Tensor, bins: int, scale: float) -> Tensor:
        vectors: Tensor = fast_res5(RoiPool(plane, boxes, bins, scale))
        return vectors

    return pool
