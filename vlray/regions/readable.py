"""Regions that batches are made of, wherever they are: a `RegionStore` or a `RegionWindow`.

Shapes: N images, R regions per image, padding included, K regions, D feature length.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32, Int32, Int64, Num


class Regions(Protocol):
    """Images by row, with their regions."""

    feature_dim: int
    feature_dtype: np.dtype[Any]

    @property
    def num_boxes(self) -> Int32[np.ndarray, N]:
        """Regions of each image."""
        ...

    @property
    def image_hw(self) -> Int32[np.ndarray, "N 2"]:
        """Height and width of each original image, pixels."""
        ...

    def __len__(self) -> int:
        """Give the number of images."""
        ...

    def read_feats(self, rows: Int64[np.ndarray, N], out: Num[np.ndarray, "N R D"]) -> None:
        """Read vectors of images, cut to R regions or padded with zeros."""
        ...

    def read_boxes(self, rows: Int64[np.ndarray, N], out: Float32[np.ndarray, "N R 4"]) -> None:
        """Read boxes, ``x1, y1, x2, y2`` in pixels, likewise."""
        ...

    def read_labels(self, rows: Int64[np.ndarray, N], num_regions: int) -> dict[str, np.ndarray]:
        """Read classes and attributes, those there are: (N, num_regions) each, -1: no label."""
        ...

    def read_feat_rows(
        self, rows: Int64[np.ndarray, K], regions: Int64[np.ndarray, K]
    ) -> Num[np.ndarray, "K D"]:
        """Read single vectors: of an image, one of its regions."""
        ...
