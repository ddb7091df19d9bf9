"""Bring an image to a detector's input size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image


@dataclass(frozen=True)
class ResizeShortestEdge:
    """Resize so that the shorter side is ``min_size``, unless the longer would pass ``max_size``.

    Small and picklable: the decoding tasks run it, so that detector actors receive images of
    bounded size, however large the photographs are.

    Source:
        detectron2/data/transforms/augmentation_impl.py (``ResizeShortestEdge``) and
        ``ResizeTransform`` for uint8 images: Pillow, bilinear with antialiasing.
    """

    min_size: int
    max_size: int

    def output_hw(self, height: int, width: int) -> tuple[int, int]:
        """Give the height and width, in pixels, that an image of this size is resized to."""
        scale = self.min_size / min(height, width)
        new_h, new_w = height * scale, width * scale
        if max(new_h, new_w) > self.max_size:
            scale = self.max_size / max(new_h, new_w)
            new_h, new_w = new_h * scale, new_w * scale
        return max(int(new_h + 0.5), 1), max(int(new_w + 0.5), 1)

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """Resize one decoded image."""
        new_h, new_w = self.output_hw(*image.shape[:2])
        if (new_h, new_w) == image.shape[:2]:
            return image
        resized = Image.fromarray(image).resize((new_w, new_h), Image.Resampling.BILINEAR)
        return np.asarray(resized)
