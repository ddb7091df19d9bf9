"""How far boxes lie on one another.

Shapes: A and B boxes of one image.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64


def iou_of(
    boxes_a: Float[np.ndarray, "A 4"], boxes_b: Float[np.ndarray, "B 4"]
) -> Float64[np.ndarray, "A B"]:
    """Divide the area that two boxes share by the area that they cover together.

    Boxes are ``(x1, y1, x2, y2)`` with the area ``(x2 - x1) * (y2 - y1)``. Two boxes without an
    area have an IoU of 1 where they are equal, else of 0.
    """
    # Coordinate by coordinate: the cells of two grids may be millions of pairs.
    a = np.asarray(boxes_a, np.float64).T[:, :, None]
    b = np.asarray(boxes_b, np.float64).T[:, None, :]
    shared = _length(np.maximum(a[0], b[0]), np.minimum(a[2], b[2]))
    shared *= _length(np.maximum(a[1], b[1]), np.minimum(a[3], b[3]))
    areas = [_length(box[0], box[2]) * _length(box[1], box[3]) for box in (a, b)]
    covered = areas[0] + areas[1] - shared
    equal: Float64[np.ndarray, "A B"] = np.zeros_like(shared)
    if (covered <= 0).any():
        equal[(covered <= 0) & (a == b).all(axis=0)] = 1
    np.divide(shared, covered, out=equal, where=covered > 0)
    return equal


def _length(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    length: np.ndarray = (end - begin).clip(min=0)
    return length
