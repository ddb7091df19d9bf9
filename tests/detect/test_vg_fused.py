"""Fused blocks compute what Detectron2's own do."""

from __future__ import annotations

import copy

import pytest
import torch

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2

# isort: on
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import nn

from vlray.detect.visual_genome.cpu.fused import can_fuse, fuse_blocks


def stage(dilation: int) -> nn.Sequential:
    """Two blocks without norms, as folding leaves them: one with a shortcut, one without."""
    torch.manual_seed(0)
    blocks = [
        BottleneckBlock(
            channels, 64, bottleneck_channels=16, norm="", stride_in_1x1=True, dilation=dilation
        )
        for channels in (32, 64)
    ]
    for module in nn.Sequential(*blocks).modules():
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.randn(module.out_channels))
    return nn.Sequential(*blocks).requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("size", [(14, 14), (9, 20)], ids=["as expected", "another size"])
def test_fused_blocks_give_the_same_and_leave_their_input_alone(
    dtype: torch.dtype, dilation: int, size: tuple[int, int]
) -> None:
    if not can_fuse(dtype):
        pytest.skip(f"this processor has no fused convolutions for {dtype}")
    eager = stage(dilation).to(dtype).to(memory_format=torch.channels_last)
    fused = copy.deepcopy(eager)
    fuse_blocks(fused, 3, 14, 14)
    x = torch.randn(3, 32, *size).to(dtype).to(memory_format=torch.channels_last)
    before = x.clone()
    with torch.inference_mode():
        expected, found = eager(x), fused(x)
    assert torch.equal(x, before)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert (found - expected).norm() <= tolerance * expected.norm()
    assert expected.norm() > 1
