"""Intersection over union (IoU) of boxes, in float64.

Shapes: A: boxes in the first set; B: boxes in the second set; E: pairs of boxes.

For float32 boxes, the result is practically exact and the same on every device, so non-maximum
suppression and matching do not depend on the hardware.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64


def iou_of(
    boxes_a: Float[np.ndarray, "A 4"], boxes_b: Float[np.ndarray, "B 4"]
) -> Float64[np.ndarray, "A B"]:
    """Compute the IoU of every box in A with every box in B.

    Boxes are ``(x1, y1, x2, y2)``, and a box has the area ``(x2 - x1) * (y2 - y1)``. The IoU of two
    boxes with zero area is 1 if the boxes are equal, else 0.
    """
    # (4, A, 1) and (4, 1, B) broadcast to all pairs.
    a = np.asarray(boxes_a, np.float64).T[:, :, None]
    b = np.asarray(boxes_b, np.float64).T[:, None, :]
    iou, union = _divide(a, b)
    if (union <= 0).any():
        iou[(union <= 0) & (a == b).all(axis=0)] = 1
    return iou


def iou_of_pairs(
    columns_a: Float64[np.ndarray, "4 E"], columns_b: Float64[np.ndarray, "4 E"]
) -> Float64[np.ndarray, " E"]:
    """Compute the IoU of pairs of boxes, passed as columns; 0 for two boxes with zero area."""
    return _divide(columns_a, columns_b)[0]


def _divide(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the IoU, and the area of the union."""
    # Computed per coordinate and partly in place to save memory: there may be millions of pairs.
    intersection = _length(np.maximum(a[0], b[0]), np.minimum(a[2], b[2]))
    intersection *= _length(np.maximum(a[1], b[1]), np.minimum(a[3], b[3]))
    areas = [_length(box[0], box[2]) * _length(box[1], box[3]) for box in (a, b)]
    union = areas[0] + areas[1] - intersection
    iou = np.zeros_like(intersection)
    np.divide(intersection, union, out=iou, where=union > 0)
    return iou, union


def _length(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    length: np.ndarray = (end - begin).clip(min=0)
    return length
