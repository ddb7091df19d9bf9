"""Intersection over union of boxes, in float64.

Shapes: A and B boxes of one image, E pairs of boxes.

Of float32 boxes these values are as good as exact, and the same on every device: what decides
about suppression and matching does not depend on where it runs.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64


def iou_of(
    boxes_a: Float[np.ndarray, "A 4"], boxes_b: Float[np.ndarray, "B 4"]
) -> Float64[np.ndarray, "A B"]:
    """Compute the IoU of every box of one side with every box of the other.

    Boxes are ``(x1, y1, x2, y2)`` with the area ``(x2 - x1) * (y2 - y1)``. Two boxes without an
    area have an IoU of 1 where they are equal, else of 0.
    """
    a = np.asarray(boxes_a, np.float64).T[:, :, None]
    b = np.asarray(boxes_b, np.float64).T[:, None, :]
    iou, covered = _divide(a, b)
    if (covered <= 0).any():
        iou[(covered <= 0) & (a == b).all(axis=0)] = 1
    return iou


def iou_of_pairs(
    columns_a: Float64[np.ndarray, "4 E"], columns_b: Float64[np.ndarray, "4 E"]
) -> Float64[np.ndarray, " E"]:
    """Compute the IoU of pairs of boxes, given column by column; 0 for boxes without an area."""
    return _divide(columns_a, columns_b)[0]


def _divide(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide the shared area by the covered one; return the covered area as well."""
    # Coordinate by coordinate: the cells of two grids may be millions of pairs.
    shared = _length(np.maximum(a[0], b[0]), np.minimum(a[2], b[2]))
    shared *= _length(np.maximum(a[1], b[1]), np.minimum(a[3], b[3]))
    areas = [_length(box[0], box[2]) * _length(box[1], box[3]) for box in (a, b)]
    covered = areas[0] + areas[1] - shared
    iou = np.zeros_like(shared)
    np.divide(shared, covered, out=iou, where=covered > 0)
    return iou, covered


def _length(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    length: np.ndarray = (end - begin).clip(min=0)
    return length
