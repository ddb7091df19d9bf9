"""Box encodings for models, and checks of pixel boxes.

Shapes: N: images; R: regions per image, including padding; P: values per box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int32

from vlray.config.loader import BoxForm

if TYPE_CHECKING:
    from vlray.regions.store import RegionStore

TOLERANCE = 1.0
"""Pixels by which a box may extend beyond its image, because conventions differ on where the last
pixel ends."""

IMAGES_AT_ONCE = 4096


def encode_boxes(
    boxes: Float32[np.ndarray, "N R 4"], image_hw: Int32[np.ndarray, "N 2"], form: BoxForm
) -> Float32[np.ndarray, "N R P"]:
    """Scale pixel boxes to the unit square, and append width, height or area.

    Args:
        boxes: ``(x1, y1, x2, y2)`` in pixels of the original image; padding rows are zero.
        image_hw: Height and width of each original image, in pixels.
        form: Encoding. ``xyxy``: P = 4. ``xyxy_area``: P = 5, with the area as a share of the
            image. ``xyxy_wh``: P = 6, with width and height. ``xyxy_wh_area``: P = 7, with all
            three.

    Returns:
        Values in ``[0, 1]``: x is divided by the image width, y by the image height, and boxes are
        clipped to the image. Padding rows stay zero.

    Source:
        xyxy: LXMERT (arXiv:1908.07490), airsplay/lxmert src/tasks/vqa_data.py. xyxy_area: ViLBERT
        (arXiv:1908.02265), as in e-bug/volta volta/datasets/_image_features_reader.py. xyxy_wh:
        Oscar (arXiv:2004.06165) and VinVL, microsoft/scene_graph_benchmark. xyxy_wh_area: UNITER
        (arXiv:1909.11740), section 3.1.
    """
    assert form != "none"
    # Images of size zero have no boxes; the maximum only avoids a division by zero.
    height, width = np.maximum(image_hw, 1).astype(np.float32).T
    size = np.stack([width, height, width, height], 1)[:, None]
    corners = np.clip(boxes / size, 0, 1, dtype=np.float32)
    sides = corners[..., 2:] - corners[..., :2]
    area = sides[..., :1] * sides[..., 1:]
    parts = {
        "xyxy": (corners,),
        "xyxy_area": (corners, area),
        "xyxy_wh": (corners, sides),
        "xyxy_wh_area": (corners, sides, area),
    }[form]
    # A single array needs no concatenation, which would copy it.
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def check_boxes(
    boxes: Float32[np.ndarray, "N R 4"], image_hw: Int32[np.ndarray, "N 2"], first_image: int = 0
) -> None:
    """Raise an error if boxes are not in pixels of the original image.

    Args:
        boxes: ``(x1, y1, x2, y2)`` in pixels; padding rows are zero.
        image_hw: Height and width of each original image, in pixels.
        first_image: Index of the first image in the region output, for the error message.

    Raises:
        ValueError: A box extends beyond its image by more than a pixel, most likely because the
            boxes were measured on the resized image.
    """
    limit = image_hw[:, [1, 0, 1, 0]].astype(np.float32)[:, None] + TOLERANCE
    outside = ((boxes < -TOLERANCE) | (boxes > limit)).any(axis=2)
    if outside.any():
        image, box = np.argwhere(outside)[0].tolist()
        height, width = image_hw[image].tolist()
        raise ValueError(
            f"box {box} of image {image + first_image} is {boxes[image, box].tolist()}, outside "
            f"its {width}x{height} image; pass boxes in pixels of the original image"
        )


def check_store(store: RegionStore) -> None:
    """Check all boxes of a region output once, so that batches need no check.

    Raises:
        ValueError: A box extends beyond its image; see `check_boxes`.
    """
    # Reading in chunks bounds the memory for millions of images.
    for first in range(0, len(store), IMAGES_AT_ONCE):
        rows = np.arange(first, min(first + IMAGES_AT_ONCE, len(store)))
        num_boxes = int(store.num_boxes[rows].max())
        boxes = np.zeros((len(rows), num_boxes, 4), np.float32)
        store.read_boxes(rows, boxes)
        check_boxes(boxes, np.asarray(store.image_hw[rows], np.int32), first)
