"""RoI pooling by look-ups is torchvision's, bit for bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import roi_pool

from vlray.detect.visual_genome.cpu.pool import RoiPool

SCALE, SIZE = 1 / 16, 14


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 2**31),
    reach=st.sampled_from([10, 200, 900]),
)
def test_it_pools_what_torchvision_pools(height: int, width: int, seed: int, reach: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    plane = torch.randn(1, 8, height, width, generator=generator)
    # Some begin before the map, some end behind it, some lie wholly outside, some are inverted.
    corners = torch.rand(20, 2, generator=generator) * 16 * max(height, width) - 40
    boxes = torch.cat([corners, corners + torch.rand(20, 2, generator=generator) * reach - 5], 1)
    pooled = RoiPool(plane, boxes, SIZE, SCALE)
    found = torch.cat([pooled(0, 7), pooled(7, 20)])
    assert torch.equal(found, roi_pool(plane, [boxes], SIZE, SCALE))


def test_bins_that_several_boxes_share_are_pooled_once() -> None:
    plane = torch.randn(1, 8, 12, 15)
    boxes = torch.tensor([[0.0, 0, 60, 60], [0, 0, 60, 60], [16, 0, 76, 60], [300, 300, 400, 500]])
    cells, places = RoiPool(plane, boxes, SIZE, SCALE).distinct()
    assert len(cells) < 2 * SIZE * SIZE
    assert len(torch.unique(places)) == len(cells)
    expected = roi_pool(plane, [boxes], SIZE, SCALE)
    assert torch.equal(cells[places].permute(0, 3, 1, 2), expected)


@pytest.mark.parametrize("corner", [8.0, 24.0, 40.0])
def test_halves_are_rounded_away_from_zero_as_in_torchvision(corner: float) -> None:
    plane = torch.arange(100.0).view(1, 1, 10, 10)
    boxes = torch.tensor([[corner, corner, corner + 16, corner + 16]])
    found = RoiPool(plane, boxes, SIZE, SCALE)(0, 1)
    assert torch.equal(found, roi_pool(plane, [boxes], SIZE, SCALE))


def test_half_precision_and_no_boxes_at_all() -> None:
    plane = torch.randn(1, 8, 9, 9).bfloat16().to(memory_format=torch.channels_last)
    boxes = torch.tensor([[0.0, 0, 100, 120], [30, 20, 90, 50]])
    found = RoiPool(plane, boxes, SIZE, SCALE)(0, 2)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found.float(), roi_pool(plane.float(), [boxes], SIZE, SCALE))
    assert RoiPool(plane, boxes[:0], SIZE, SCALE)(0, 20).shape == (0, 8, SIZE, SIZE)
