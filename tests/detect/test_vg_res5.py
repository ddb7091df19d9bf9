"""The RoI stage for CPUs computes what Detectron2's modules do."""

from __future__ import annotations

import copy

import pytest
import torch

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2

# isort: on
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import nn
from torch.nn import functional
from torchvision.ops import roi_pool

from vlray.detect.visual_genome.cpu.fused import can_fuse
from vlray.detect.visual_genome.cpu.pool import RoiPool
from vlray.detect.visual_genome.cpu.res5 import Res5
from vlray.detect.visual_genome.cpu.winograd import TERMS, WinogradConv, WinogradMapConv

SCALE, SIZE = 1 / 16, 14


@pytest.fixture(scope="module")
def blocks() -> nn.Sequential:
    """res5 in small: three blocks of dilation 2 without norms, as folding leaves them."""
    torch.manual_seed(0)
    made = nn.Sequential(
        *(
            BottleneckBlock(c, 64, bottleneck_channels=32, norm="", stride_in_1x1=True, dilation=2)
            for c in (48, 64, 64)
        )
    )
    for module in made.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            module.bias = nn.Parameter(torch.randn(module.out_channels))
    return made.requires_grad_(False)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
def test_it_gives_the_means_that_the_modules_give(
    blocks: nn.Sequential, dtype: torch.dtype, tolerance: float
) -> None:
    if not can_fuse(dtype):
        pytest.skip(f"this processor has no fused convolutions for {dtype}")
    plane = torch.randn(1, 48, 20, 30).relu()
    corners = torch.rand(47, 2) * 200  # two whole chunks and a part of one
    boxes = torch.cat([corners, corners + 10 + torch.rand(47, 2) * 250], 1)
    with torch.inference_mode():
        expected = blocks(roi_pool(plane, [boxes], SIZE, SCALE)).mean(dim=(2, 3))
        res5 = Res5(copy.deepcopy(blocks).to(dtype))
        found = res5(RoiPool(plane.to(dtype), boxes, SIZE, SCALE))
        none = res5(RoiPool(plane.to(dtype), boxes[:0], SIZE, SCALE))
    assert found.dtype == torch.float32
    assert none.shape == (0, 64)
    error = (found - expected).norm(dim=1) / expected.norm(dim=1)
    assert error.max() <= tolerance


@pytest.mark.parametrize("side", [3, 4, 7, 8])
def test_winograds_convolution_is_the_plain_one(side: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 24, 3, padding=1)
    maps = torch.randn(5, 16, side, side)
    rows = maps.permute(2, 3, 0, 1).reshape(-1, 16)
    buffers = [torch.empty(TERMS * 4 * 5 * 24) for _ in range(2)]
    with torch.inference_mode():
        expected = functional.conv2d(
            maps.double(), conv.weight.double(), conv.bias.double(), padding=1
        ).relu()
        found = WinogradConv(conv, side)(rows, buffers)
    found = found.view(side, side, 5, 24).permute(2, 3, 0, 1)
    assert (found - expected).norm() <= 2e-6 * expected.norm()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 8), (13, 6)])
def test_winograds_convolution_of_a_whole_map_is_the_plain_one(height: int, width: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 24, 3, padding=1)
    maps = torch.randn(3, 16, height, width).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = functional.conv2d(
            maps.double(), conv.weight.double(), conv.bias.double(), padding=1
        ).relu()
        found = WinogradMapConv(conv)(maps)
    assert (found - expected).norm() <= 2e-6 * expected.norm()
