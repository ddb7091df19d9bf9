"""The one way into the CPU kernels: replace the slow parts of a network that runs on a CPU."""

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
"""Pools R boxes of one map and runs res5 on them: map, boxes in pixels of the resized image, bins
of a side, scale of the map. Returns R vectors in float32."""


def use_kernels(
    stages: Sequence[nn.Module],
    rpn_head: Any,
    res5: nn.Module,
    map_hw: Sequence[Sequence[int]],
    dtype: torch.dtype,
) -> PoolRes5 | None:
    """Replace modules of a network by faster ones that compute the same to 4e-7, in place.

    Args:
        stages: Stages of the backbone before res5, in float32.
        rpn_head: Head of the region proposal network; its 3x3 convolution is replaced.
        res5: The last stage, in ``dtype``.
        map_hw: Height and width of the maps that each stage usually gets. Other sizes work, more
            slowly.
        dtype: Of res5.

    Returns:
        Pooling and res5 in one; None where this processor has no fused kernels for ``dtype``.
    """
    rpn_head.conv = WinogradMapConv(rpn_head.conv)
    if can_fuse(torch.float32):
        for stage, (height, width) in zip(stages, map_hw, strict=True):
            fuse_blocks(stage, 1, height, width)
    if not can_fuse(dtype):
        return None
    fast_res5 = Res5(res5)

    def pool(plane: Tensor, boxes: Tensor, bins: int, scale: float) -> Tensor:
        vectors: Tensor = fast_res5(RoiPool(plane, boxes, bins, scale))
        return vectors

    return pool
