"""Winograd convolutions for CPUs: 3x3 convolutions with fewer multiplications, as matrix products.

Shapes: N: images; H, W: height and width of a map; P: small maps; T: tiles per map; C, K: input
and output channels.

Source:
    Fast Algorithms for Convolutional Neural Networks (arXiv:1509.09308), F(4x4, 3x3).
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

TILE = 4  # side of a tile's output, cells
REACH = TILE + 2  # side of a tile's input, cells
TERMS = REACH * REACH

# Transforms of F(4x4, 3x3) with the interpolation points 0, 1, -1, 2, -2 and infinity.
_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float64,
)
_KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float64,
)
_OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    np.float64,
)


class _Winograd(nn.Module):
    """Base class of both convolutions, which holds the transforms and the transformed weights.

    Args:
        conv: A 3x3 convolution with bias and stride 1.
        take: Matrix that transforms input cells to the tiles' terms.
        give: Matrix that transforms the tiles' terms to output cells.
    """

    gather: Tensor
    weight: Tensor
    scatter: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, take: np.ndarray, give: np.ndarray) -> None:
        super().__init__()
        assert conv.kernel_size == (3, 3)
        assert conv.stride == (1, 1)
        assert conv.bias is not None
        kernel = torch.from_numpy(_KERNEL)
        # In float64, so that the transformed weights are rounded only once.
        weight = torch.einsum("ky,lx,ocyx->klco", kernel, kernel, conv.weight.detach().double())
        for name, value in (
            ("gather", torch.from_numpy(take)),
            ("weight", weight.flatten(0, 1)),
            ("scatter", torch.from_numpy(give)),
            ("bias", conv.bias.detach()),
        ):
            self.register_buffer(name, value.to(conv.weight.dtype).contiguous())


class WinogradMapConv(_Winograd):
    """3x3 convolution with zero padding, bias and ReLU over maps of any size."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv, np.kron(_INPUT, _INPUT), np.kron(_OUTPUT, _OUTPUT))

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N K H W"]:
        """Convolve, and apply the ReLU; input and output are channels-last."""
        images, channels, height, width = x.shape
        down, across = -(-height // TILE), -(-width // TILE)
        padded = x.new_zeros(images, down * TILE + 2, across * TILE + 2, channels)
        padded[:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
        image, row, column, _ = padded.stride()
        # A view of all overlapping input tiles; nothing is copied yet.
        tiles = padded.as_strided(
            (REACH, REACH, images, down, across, channels),
            (row, column, image, TILE * row, TILE * column, 1),
        )
        terms = self.gather @ tiles.reshape(TERMS, -1)
        products = torch.bmm(terms.view(TERMS, -1, channels), self.weight)
        out = self.scatter @ products.view(TERMS, -1)
        out = out.view(TILE, TILE, images, down, across, -1).permute(2, 3, 0, 4, 1, 5)
        out = out.reshape(images, down * TILE, across * TILE, -1)[:, :height, :width]
        return (out + self.bias).relu_().permute(0, 3, 1, 2)


class WinogradConv(_Winograd):
    """3x3 convolution over many maps of one small size, with zero padding, bias and ReLU.

    Rows of input and output are ordered by cell, then by map.
    """

    def __init__(self, conv: nn.Conv2d, side: int) -> None:
        take, give = _transforms(side)
        super().__init__(conv, take, give)
        self._tiles = take.shape[0] // TERMS

    def forward(
        self, rows: Float[Tensor, "cells*P C"], buffers: list[Tensor]
    ) -> Float[Tensor, "cells*P K"]:
        """Convolve all maps, and apply the ReLU.

        Args:
            rows: Cells of any number of maps.
            buffers: Two buffers with at least ``36 * T * P * max(C, K)`` numbers each; they are
                overwritten. Allocating them in every call would take half as much time as the
                arithmetic.
        """
        _, channels, outputs = self.weight.shape
        maps = len(rows) // self.scatter.shape[0]
        count = TERMS * self._tiles * maps
        terms = buffers[0][: count * channels].view(TERMS * self._tiles, -1)
        torch.mm(self.gather, rows.view(-1, maps * channels), out=terms)
        products = buffers[1][: count * outputs].view(TERMS, -1, outputs)
        torch.bmm(terms.view(TERMS, -1, channels), self.weight, out=products)
        out = torch.mm(self.scatter, products.view(TERMS * self._tiles, -1))
        return out.view(-1, outputs).add_(self.bias).relu_()


def _transforms(
    side: int,
) -> tuple[Float64[np.ndarray, "terms*T cells"], Float64[np.ndarray, "cells terms*T"]]:
    """Build the matrices that transform a map's cells to the terms of its tiles, and back.

    Input cells outside the map count as zeros; output cells outside it are not computed.

    Args:
        side: Side of the square map, in cells.
    """
    tiles = -(-side // TILE)
    take = np.zeros((REACH, tiles, side))
    give = np.zeros((side, REACH, tiles))
    for tile in range(tiles):
        for offset in range(REACH):
            cell = tile * TILE - 1 + offset  # a tile's input begins one cell before its output
            if 0 <= cell < side:
                take[:, tile, cell] = _INPUT[:, offset]
        for offset in range(min(TILE, side - tile * TILE)):
            give[tile * TILE + offset, :, tile] = _OUTPUT[offset]
    cells, terms = side * side, TERMS * tiles * tiles
    return (
        np.einsum("ksy,ltx->klstyx", take, take).reshape(terms, cells),
        np.einsum("yks,xlt->yxklst", give, give).reshape(cells, terms),
    )
