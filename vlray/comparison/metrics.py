"""Metrics of one image: the matched boxes of both sides and how far they differ.

Shapes: A and B: boxes of one image on the two sides, M: matched pairs, D: feature length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from vlray.comparison.matching import Matching, match
from vlray.regions.batch import RegionBatch

_ROUNDING = np.float16


@dataclass(frozen=True)
class Comparable:
    """Which columns of the two outputs can be compared. Boxes always can.

    Attributes:
        features: Whether both sides have feature vectors of the same length.
        objects: Whether both sides have the same class names.
        attributes: Whether both sides have the same attribute names.
        all: Whether every column of both sides is compared.
    """

    features: bool
    objects: bool
    attributes: bool
    all: bool


@dataclass(frozen=True, eq=False)
class ImageMetrics:
    """Metrics of one image. Arrays hold one value per matched pair; None: not compared.

    Attributes:
        num_a: Number of boxes on side A.
        num_b: Number of boxes on side B.
        pairs: The matched boxes.
        cosine_distance: 1 - cosine of the two features.
        rel_l2: ``||a - b|| / ||a||``.
        rounding: ``||a - float16(a)|| / ||a||`` where exactly one side is stored as float16: the
            part of ``rel_l2`` that rounding explains.
        score_diff: Score of B minus score of A.
        same_class: Whether the classes are equal.
        same_attribute: Whether the attributes are equal.
        same_size: Whether both sides have the same image size.
        identical: Whether all stored columns are bitwise equal, in the same order.
    """

    num_a: int
    num_b: int
    pairs: Matching
    cosine_distance: Float64[np.ndarray, " M"] | None
    rel_l2: Float64[np.ndarray, " M"] | None
    rounding: Float64[np.ndarray, " M"] | None
    score_diff: Float64[np.ndarray, " M"] | None
    same_class: np.ndarray | None
    same_attribute: np.ndarray | None
    same_size: bool
    identical: bool

    @property
    def unmatched(self) -> int:
        """Number of boxes without a partner, both sides together."""
        return self.num_a + self.num_b - 2 * len(self.pairs)

    def as_row(self) -> dict[str, Any]:
        """Summarize the metrics as the image's row in ``compare.json``."""
        return {
            "boxes_a": self.num_a,
            "boxes_b": self.num_b,
            "matched": len(self.pairs),
            "iou_mean": _mean(self.pairs.iou),
            "iou_min": _most(self.pairs.iou, -1),
            "cosine_mean": _cosine(_mean(self.cosine_distance)),
            "cosine_min": _cosine(_most(self.cosine_distance, 1)),
            "rel_l2_mean": _mean(self.rel_l2),
            "rel_l2_max": _most(self.rel_l2, 1),
            "same_class": _count(self.same_class),
            "same_attribute": _count(self.same_attribute),
            "score_diff_mean": _mean(self.score_diff),
            "score_diff_max": None if self.score_diff is None else _most(abs(self.score_diff), 1),
            "same_size": self.same_size,
            "identical": self.identical,
        }


def compare_image(
    a: RegionBatch, b: RegionBatch, comparable: Comparable, iou_thresh: float
) -> ImageMetrics:
    """Match the boxes of one image and measure each pair.

    Where the two sides have different image sizes, B's boxes are first scaled to A's size. The
    cosine of two zero vectors is 1; that of a zero vector and any other vector is 0.

    Args:
        a: Regions of the image on side A.
        b: Regions of the same image on side B.
        comparable: Columns to compare besides the boxes.
        iou_thresh: Minimum IoU of a matched pair.
    """
    same_size = bool((a.image_hw == b.image_hw).all())
    boxes_b = b.boxes
    if not same_size:
        # image_hw is (height, width), boxes are (x1, y1, x2, y2).
        scale = (a.image_hw / np.maximum(b.image_hw, 1))[0, [1, 0, 1, 0]]
        boxes_b = (b.boxes * scale).astype(np.float32)
    objects = comparable.objects and a.obj_ids is not None and b.obj_ids is not None
    ids = (a.obj_ids, b.obj_ids) if objects else (None, None)
    pairs = match(a.boxes, boxes_b, *ids, iou_thresh)
    cosine_distance = rel_l2 = rounding = None
    if comparable.features:
        cosine_distance, rel_l2 = feature_distances(
            a.visual_feats[pairs.a], b.visual_feats[pairs.b]
        )
        rounding = _rounding(a.visual_feats[pairs.a], b.visual_feats[pairs.b])
    score_diff = None
    if objects and a.obj_probs is not None and b.obj_probs is not None:
        score_diff = b.obj_probs[pairs.b].astype(np.float64) - a.obj_probs[pairs.a]
    attributes = _same(a.attr_ids, b.attr_ids, pairs) if comparable.attributes else None
    return ImageMetrics(
        num_a=len(a.boxes),
        num_b=len(b.boxes),
        pairs=pairs,
        cosine_distance=cosine_distance,
        rel_l2=rel_l2,
        rounding=rounding,
        score_diff=score_diff,
        same_class=_same(a.obj_ids, b.obj_ids, pairs) if objects else None,
        same_attribute=attributes,
        same_size=same_size,
        identical=comparable.all and _identical(a, b),
    )


def feature_distances(
    a: np.ndarray, b: np.ndarray
) -> tuple[Float64[np.ndarray, " M"], Float64[np.ndarray, " M"]]:
    """Measure ``1 - cosine`` and ``||a - b|| / ||a||`` of pairs of vectors.

    Both sides are computed in float64. A pair with a non-finite value has the distance 1 by both
    measures.

    Args:
        a: Vectors (M, D) of side A.
        b: Vectors (M, D) of side B.
    """
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(wide_a).all(axis=1) & np.isfinite(wide_b).all(axis=1)
    wide_a[~finite], wide_b[~finite] = 0, 0
    norms = [np.linalg.norm(side, axis=1) for side in (wide_a, wide_b)]
    # 1 - cosine equals half the squared distance of the unit vectors. This form does not cancel
    # where the cosine is close to 1.
    units = [
        side / np.maximum(norm, 1e-300)[:, None]
        for side, norm in zip((wide_a, wide_b), norms, strict=True)
    ]
    cosine_distance = ((units[0] - units[1]) ** 2).sum(axis=1) / 2
    zeros = [norm == 0 for norm in norms]
    cosine_distance[zeros[0] != zeros[1]] = 1
    # A zero reference would divide by zero: use B's norm, or 1 where both vectors are zero.
    reference = np.where(zeros[0], np.where(zeros[1], 1, norms[1]), norms[0])
    rel_l2 = np.linalg.norm(wide_a - wide_b, axis=1) / reference
    cosine_distance[~finite] = rel_l2[~finite] = 1
    return cosine_distance, rel_l2


def _rounding(a: np.ndarray, b: np.ndarray) -> Float64[np.ndarray, " M"] | None:
    """Measure the relative L2 error of rounding the wider side to float16.

    Returns:
        None where both sides or neither side is float16.
    """
    if (a.dtype == _ROUNDING) == (b.dtype == _ROUNDING):
        return None
    wide = (b if a.dtype == _ROUNDING else a).astype(np.float32)
    limit = np.finfo(_ROUNDING).max  # the writer clips to the range of float16 as well
    return feature_distances(wide, wide.clip(-limit, limit).astype(_ROUNDING))[1]


def _same(a: np.ndarray | None, b: np.ndarray | None, pairs: Matching) -> np.ndarray | None:
    return None if a is None or b is None else a[pairs.a] == b[pairs.b]


def _identical(a: RegionBatch, b: RegionBatch) -> bool:
    for name in a.__dataclass_fields__:
        one, two = getattr(a, name), getattr(b, name)
        # Columns that only one side has make the images different.
        if (one is None) != (two is None):
            return False
        if one is not None and (
            one.dtype != two.dtype or one.shape != two.shape or one.tobytes() != two.tobytes()
        ):
            return False
    return True


def _mean(values: np.ndarray | None) -> float | None:
    return None if values is None or not len(values) else float(values.mean())


def _most(values: np.ndarray | None, sign: int) -> float | None:
    return None if values is None or not len(values) else sign * float((sign * values).max())


def _cosine(distance: float | None) -> float | None:
    return None if distance is None else 1 - distance


def _count(flags: np.ndarray | None) -> int | None:
    return None if flags is None else int(flags.sum())
