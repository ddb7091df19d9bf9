"""RoI max pooling of many boxes on one feature map, by look-ups in a table of window maxima.

Shapes: H, W: height and width of the map; C: channels; R: boxes; U: distinct bins.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


class RoiPool:
    """RoIPool for one image, bitwise equal to torchvision's but several times as fast on a CPU.

    The table holds the maximum over each window of ``2**a`` by ``2**b`` cells. Four such windows,
    which may overlap, cover a bin of any size. A bin therefore needs four look-ups of C contiguous
    numbers, whatever its size.

    Source:
        Fast R-CNN (arXiv:1504.08083) and torchvision's roi_pool, for the rounding of bins; Bender
        and Farach-Colton (2000), for the sparse table of range maximum queries.
    """

    def __init__(
        self, plane: Float[Tensor, "1 C H W"], boxes: Float[Tensor, "R 4"], size: int, scale: float
    ) -> None:
        """Compute the boxes' bins, and the lookup table for the window sizes of these bins.

        Args:
            plane: One image's feature map.
            boxes: ``(x1, y1, x2, y2)`` in pixels of the resized image.
            size: Bins per side.
            scale: Cells per pixel.
        """
        height, width = plane.shape[2:]
        self._size = size
        x0, x1, levels_x = _bins(boxes[:, 0::2], width, size, scale)
        y0, y1, levels_y = _bins(boxes[:, 1::2], height, size, scale)
        empty = (x1 <= x0)[:, None, :] | (y1 <= y0)[:, :, None]
        across = 1 + int(levels_x.max()) if len(boxes) else 1
        down = 1 + int(levels_y.max()) if len(boxes) else 1
        self._table = _maxima(plane[0].permute(1, 2, 0), down, across)
        window = levels_y[:, :, None] * across + levels_x[:, None, :]
        last_x, last_y = x1 - (1 << levels_x), y1 - (1 << levels_y)
        # A bin outside the map has the value 0, which is the last row of the table.
        zero = len(self._table) - 1
        rows = [(window * height + y[:, :, None]) * width for y in (y0, last_y)]
        self._corners = [
            (row + x[:, None, :]).where(~empty, zero).flatten()
            for row in rows
            for x in (x0, last_x)
        ]

    def __call__(self, start: int, stop: int) -> Float[Tensor, "R C bins bins"]:
        """Pool the boxes with indices ``start`` to ``stop - 1``; the result is channels-last."""
        bins = self._size**2
        cells = self._look_up([corner[start * bins : stop * bins] for corner in self._corners])
        return cells.view(-1, self._size, self._size, cells.shape[1]).permute(0, 3, 1, 2)

    def distinct(self) -> tuple[Float[Tensor, "U C"], Int64[Tensor, "R bins bins"]]:
        """Pool each distinct bin once, however many boxes share it.

        Boxes overlap, and small boxes have fewer cells than bins: only a third to a sixth of the
        bins of 300 proposals are distinct.

        Returns:
            The distinct bins, and the index of each box's bins among them.
        """
        # Two opposite corners identify a bin.
        keys = self._corners[0] * len(self._table) + self._corners[3]
        unique_keys, inverse = torch.unique(keys, return_inverse=True)
        # One position of each key: any position will do, as equal keys have equal corners.
        example = inverse.new_empty(len(unique_keys))
        example[inverse] = torch.arange(len(keys), device=keys.device)
        cells = self._look_up([corner[example] for corner in self._corners])
        return cells, inverse.view(-1, self._size, self._size)

    def _look_up(self, corners: list[Int64[Tensor, " cells"]]) -> Float[Tensor, "cells C"]:
        cells = self._table.index_select(0, corners[0])
        for rows in corners[1:]:
            torch.maximum(cells, self._table.index_select(0, rows), out=cells)
        return cells


def _bins(
    sides: Float[Tensor, "R 2"], limit: int, size: int, scale: float
) -> tuple[Int64[Tensor, "R bins"], Int64[Tensor, "R bins"], Int64[Tensor, "R bins"]]:
    """Compute each bin's start and end along one axis, and log2 of the largest window inside it."""
    cells = sides * scale
    # Halves are rounded away from 0, as in torchvision's C++; torch.round rounds them to even.
    cells = cells.sign() * (cells.abs() + 0.5).floor()
    length = (cells[:, 1] - cells[:, 0] + 1).clamp(min=1)
    step = (length / size)[:, None]
    index = torch.arange(size, dtype=step.dtype, device=step.device)
    begin = (cells[:, :1] + (index * step).floor()).clamp(0, limit).long()
    end = (cells[:, :1] + ((index + 1) * step).ceil()).clamp(0, limit).long()
    width = (end - begin).clamp(min=1)
    return begin, end, width.float().frexp().exponent.long() - 1


def _maxima(plane: Float[Tensor, "H W C"], down: int, across: int) -> Float[Tensor, "rows C"]:
    """Stack the maxima over windows of ``2**a`` by ``2**b`` cells, followed by a row of zeros."""
    height, width, channels = plane.shape
    table = plane.new_empty(down * across * height * width + 1, channels)
    table[-1] = 0
    windows = table[:-1].view(down, across, height, width, channels)
    windows[0, 0] = plane
    for a in range(down):
        if a:
            _double(windows[a - 1, 0], windows[a, 0], 1 << (a - 1), 0)
        for b in range(1, across):
            _double(windows[a, b - 1], windows[a, b], 1 << (b - 1), 1)
    return table


def _double(source: Tensor, target: Tensor, step: int, axis: int) -> None:
    """Compute maxima over ``2 * step`` cells from maxima over ``step`` cells, along one axis.

    The last ``step`` cells, whose windows would leave the map, are only copied: no bin reads them.
    """
    count = max(source.shape[axis] - step, 0)
    target.copy_(source)
    torch.maximum(
        source.narrow(axis, 0, count),
        source.narrow(axis, source.shape[axis] - count, count),
        out=target.narrow(axis, 0, count),
    )
