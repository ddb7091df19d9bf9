"""Resize an image to the input size of a detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image


@dataclass(frozen=True)
class ResizeShortestEdge:
    """Resize the shorter side to ``min_size`` pixels, but limit the longer side to ``max_size``.

    The object is small and picklable. The threads that decode call it, so that decoded images have
    a bounded size, however large the photographs are.

    Source:
        detectron2/data/transforms/augmentation_impl.py (``ResizeShortestEdge``) and
        ``ResizeTransform`` for uint8 images: Pillow, bilinear with antialiasing.
    """

    min_size: int
    max_size: int

    def output_hw(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width, in pixels, of the resized image."""
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


@dataclass(frozen=True)
class ResizeTruncated(ResizeShortestEdge):
    """The same, but the longer side is truncated to whole pixels instead of rounded.

    Source:
        maskrcnn-benchmark, data/transforms/transforms.py (``Resize.get_size``).
    """

    def output_hw(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width, in pixels, of the resized image."""
        shorter, longer = min(height, width), max(height, width)
        size = self.min_size
        if longer / shorter * size > self.max_size:
            size = round(self.max_size * shorter / longer)
        if shorter == size:
            return height, width
        size = max(size, 1)  # an image 2,000 times as long as wide
        if width < height:
            return int(size * height / width), size
        return size, int(size * width / height)


@dataclass(frozen=True)
class ResizeLikeCaffe:
    """Resize to float32 with one scale for both axes, as for the published Caffe features.

    ``min_size`` and ``max_size`` (in pixels) are as in `ResizeShortestEdge`. Pixel values are not
    rounded, so the mean may be subtracted before or after resizing.

    Source:
        py-faster-rcnn, lib/utils/blob.py (``prep_im_for_blob``): OpenCV, bilinear.
    """

    min_size: int
    max_size: int

    def scale(self, height: int, width: int) -> float:
        """Return the scale factor for an image of this size."""
        shorter, longer = min(height, width), max(height, width)
        scale = self.min_size / shorter
        # The reference rounds the longer side before comparing it with max_size.
        return self.max_size / longer if round(scale * longer) > self.max_size else scale

    def __call__(self, image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "h w 3"]:
        """Resize one decoded image. Only the output size is rounded, not the scale."""
        import cv2

        scale = self.scale(*image.shape[:2])
        pixels = image.astype(np.float32)
        # A side of one or two pixels may round to 0, which OpenCV rejects.
        size = [max(round(side * scale), 1) for side in image.shape[1::-1]]
        if min(image.shape[:2]) * scale < 1:
            return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR))
        resized = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, np.float32)
