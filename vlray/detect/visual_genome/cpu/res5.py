"""RoI stage on a CPU: res5 over all pooled regions of an image, with a third less arithmetic.

Three steps differ from the modules that they replace, with the same result up to rounding:

- The first block's 1x1 convolutions treat each cell separately, so they run once per distinct bin.
- Every second row and column of a 14x14 map form one of four 7x7 maps. A convolution with dilation
  2 on the large map equals a plain convolution on each of these, and splitting the map only
  reorders rows.
- Plain 3x3 convolutions use Winograd's F(4x4, 3x3).

Shapes: R: regions; C: channels. The rows of a chunk are the cells of its 7x7 maps, four per region,
ordered by cell and then by map.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vlray.detect.visual_genome.cpu.fused import FusedConv
from vlray.detect.visual_genome.cpu.pool import RoiPool
from vlray.detect.visual_genome.cpu.winograd import TERMS, TILE, WinogradConv

SIDE = 7  # side of a quarter of the 14x14 map
CELLS = SIDE * SIDE
TILES = (-(-SIDE // TILE)) ** 2
CHUNK = 20  # regions processed together: their data fits into the CPU's caches
ROWS = 4096  # distinct bins processed together, for the same reason


class Res5(nn.Module):
    """res5 with folded norms, from pooled boxes to the mean vector of each region."""

    def __init__(self, blocks: nn.Module) -> None:
        super().__init__()
        assert isinstance(blocks, nn.Sequential)
        parts: list[Any] = list(blocks)
        first, *others = parts
        self._width, self._channels = first.conv1.out_channels, first.out_channels
        rows = (1, CELLS, 4 * CHUNK)
        self.first = FusedConv(first.conv1, True, 1, 1, ROWS)
        self.shortcut = FusedConv(first.shortcut, False, 1, 1, ROWS)
        self.reduce = nn.ModuleList(FusedConv(b.conv1, True, *rows) for b in others)
        self.convs = nn.ModuleList(WinogradConv(b.conv2, SIDE) for b in parts)
        self.expand = nn.ModuleList(FusedConv(b.conv3, False, *rows) for b in parts)

    def forward(self, pooled: RoiPool) -> Float[Tensor, "R 2048"]:
        """Compute the mean of res5's output over each pooled box's cells, in float32."""
        cells, places = pooled.distinct()
        hidden = cells.new_empty(len(cells), self._width)
        shortcut = cells.new_empty(len(cells), self._channels)
        for start in range(0, len(cells), ROWS):
            rows = slice(start, start + ROWS)
            block = _as_map(cells[rows], 1)
            hidden[rows] = _as_rows(self.first(block))
            shortcut[rows] = _as_rows(self.shortcut(block))
        # The shape becomes (cells of a quarter, quarters, R).
        places = places.view(-1, SIDE, 2, SIDE, 2).permute(1, 3, 2, 4, 0).reshape(CELLS, 4, -1)
        means = [torch.zeros(0, self._channels, device=cells.device)]
        buffers = [cells.new_empty(TERMS * TILES * 4 * CHUNK * self._width) for _ in range(2)]
        for start in range(0, places.shape[2], CHUNK):
            index = places[:, :, start : start + CHUNK].reshape(-1)
            x = self._chunk(hidden.index_select(0, index), shortcut.index_select(0, index), buffers)
            regions = x.view(CELLS * 4, -1, self._channels)
            means.append(regions.mean(dim=0, dtype=torch.float32))
        return torch.cat(means)

    def _chunk(
        self,
        hidden: Float[Tensor, "rows 512"],
        shortcut: Float[Tensor, "rows 2048"],
        buffers: list[Tensor],
    ) -> Float[Tensor, "rows 2048"]:
        """Run the three blocks on one chunk of regions.

        Args:
            hidden: Output of the first block's first convolution.
            shortcut: The first block's shortcut, which is overwritten.
            buffers: Memory for the Winograd convolutions, which is overwritten.
        """
        x = shortcut
        reduce: Any
        expand: Any
        for reduce, conv, expand in zip(
            itertools.chain([None], self.reduce), self.convs, self.expand, strict=True
        ):
            if reduce is not None:  # the first block's conv1 has run on the distinct bins already
                hidden = _as_rows(reduce(_as_map(x, CELLS)))
            hidden = conv(hidden, buffers)
            x = _as_rows(expand.onto(_as_map(hidden, CELLS), _as_map(x, CELLS)))
        return x


def _as_map(rows: Float[Tensor, "rows C"], height: int) -> Float[Tensor, "1 C height width"]:
    """View rows as a channels-last map for a 1x1 convolution, without copying data."""
    return rows.view(1, height, -1, rows.shape[1]).permute(0, 3, 1, 2)


def _as_rows(maps: Float[Tensor, "1 C height width"]) -> Float[Tensor, "rows C"]:
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
