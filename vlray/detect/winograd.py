"""3x3 convolutions of small maps with a third of the multiplications, as products of matrices.

Shapes: P maps of ``side * side`` cells, T = tiles of a map, C channels in and K out; rows of an
activation are ordered by cell, then by map.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

TILE = 4  # cells of a side of what one tile gives
REACH = TILE + 2  # and of what it looks at
TERMS = REACH * REACH

# Interpolation at 0, 1, -1, 2, -2 and infinity.
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


class WinogradConv(nn.Module):
    """A 3x3 convolution with zeros around, its bias and a ReLU, over maps of one small size.

    Source:
        Fast Algorithms for Convolutional Neural Networks (arXiv:1509.09308), F(4x4, 3x3).
    """

    gather: Tensor
    weight: Tensor
    scatter: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype, side: int) -> None:
        super().__init__()
        assert conv.kernel_size == (3, 3)
        assert conv.bias is not None
        take, give = _transforms(side)
        kernel = torch.from_numpy(_KERNEL)
        weight = torch.einsum(
            "ky,lx,ocyx->klco", kernel, kernel, conv.weight.detach().double().cpu()
        )
        self._tiles = take.shape[0] // TERMS
        for name, value in (
            ("gather", torch.from_numpy(take)),
            ("weight", weight.flatten(0, 1)),
            ("scatter", torch.from_numpy(give)),
            ("bias", conv.bias.detach()),
        ):
            self.register_buffer(name, value.to(dtype).contiguous())

    def forward(
        self, rows: Float[Tensor, "cells*P C"], buffers: list[Tensor]
    ) -> Float[Tensor, "cells*P K"]:
        """Convolve all maps, and cut off below 0.

        Args:
            rows: Of any number of maps.
            buffers: Two of at least ``36 T P max(C, K)`` numbers each, to be overwritten: memory
                that is asked for anew costs half as much as the arithmetic.
        """
        _, channels, outputs = self.weight.shape
        maps = len(rows) // self.scatter.shape[0]
        count = TERMS * self._tiles * maps
        terms = buffers[0][: count * channels].view(TERMS * self._tiles, -1)
        torch.mm(self.gather, rows.view(-1, maps * channels), out=terms)
        products = buffers[1][: count * outputs].view(TERMS, -1, outputs)
        torch.bmm(terms.view(TERMS, -1, channels), self.weight, out=products)
        found = torch.mm(self.scatter, products.view(TERMS * self._tiles, -1))
        return found.view(-1, outputs).add_(self.bias).relu_()


def _transforms(
    side: int,
) -> tuple[Float64[np.ndarray, "terms*T cells"], Float64[np.ndarray, "cells terms*T"]]:
    """Give the matrices from the cells of a map to the terms of all its tiles, and back.

    Cells outside the map are zeros on the way in, and not computed on the way out.
    """
    tiles = -(-side // TILE)
    take = np.zeros((REACH, tiles, side))
    give = np.zeros((side, REACH, tiles))
    for tile in range(tiles):
        for place in range(REACH):
            cell = tile * TILE - 1 + place
            if 0 <= cell < side:
                take[:, tile, cell] = _INPUT[:, place]
        for place in range(min(TILE, side - tile * TILE)):
            give[tile * TILE + place, :, tile] = _OUTPUT[place]
    cells, terms = side * side, TERMS * tiles * tiles
    return (
        np.einsum("ksy,ltx->klstyx", take, take).reshape(terms, cells),
        np.einsum("yks,xlt->yxklst", give, give).reshape(cells, terms),
    )
