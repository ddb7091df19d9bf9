"""Grid features: the cells of a feature map over the whole image, instead of regions.

Shapes: N: images; D: feature length; H, W: height and width of the map; R: cells per image.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Int32
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from vlray.regions.batch import RegionBatch


def grid_regions(
    maps: Float[Tensor, "N D H W"], image_hw: Int32[np.ndarray, "N 2"], size: int
) -> RegionBatch:
    """Convert each cell of the feature maps into a region, row by row.

    Args:
        maps: Feature maps of images that have the same size after resizing.
        image_hw: Height and width of the original images, in pixels.
        size: Number of rows and columns to which each map is average-pooled. 0: keep the map's
            own size.

    Returns:
        Regions without classes. Their boxes divide the original image into equal cells.
    """
    maps = maps.float()  # averages in half precision would be rounded
    if size:
        maps = adaptive_avg_pool2d(maps, size)
    rows, columns = maps.shape[2:]
    vectors = maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
    return RegionBatch(
        image_hw=image_hw,
        num_boxes=np.full(len(maps), rows * columns, np.int32),
        boxes=np.concatenate([cells(rows, columns, *hw) for hw in image_hw.tolist()]),
        visual_feats=vectors.cpu().numpy(),
    )


def cells(rows: int, columns: int, height: int, width: int) -> Float32[np.ndarray, "R 4"]:
    """Divide an image into equal cells, and return their corners in pixels, row by row."""
    y = np.linspace(0, height, rows + 1, dtype=np.float32)
    x = np.linspace(0, width, columns + 1, dtype=np.float32)
    top, left = np.meshgrid(y[:-1], x[:-1], indexing="ij")
    bottom, right = np.meshgrid(y[1:], x[1:], indexing="ij")
    return np.stack([left, top, right, bottom], axis=-1).reshape(-1, 4)
