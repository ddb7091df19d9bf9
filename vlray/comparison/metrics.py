"""Metrics of one image: how many boxes match, and how much the matched boxes differ.

Shapes: M: matched pairs; D: feature length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vlray.comparison.matching import Matching, match
from vlray.regions.batch import RegionBatch
from vlray.settings.json_value import JsonObject

_ROUNDING = np.float16


@dataclass(frozen=True)
class Comparable:
    """Which columns of the two outputs can be compared; boxes always can.

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
        rounding: ``||x - float16(x)|| / ||x||`` for the side x that is not stored as float16: the
            part of ``rel_l2`` that rounding explains. None unless exactly one side is float16.
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
        """Number of boxes without a partner, summed over both sides."""
        return self.num_a + self.num_b - 2 * len(self.pairs)

    def as_row(self) -> JsonObject:
        """Summarize the metrics as the image's entry in ``compare.json``."""
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
    """Match the boxes of one image and compute the metrics of each pair.

    If the image size differs between the sides, B's boxes are first scaled to A's size. Two zero
    vectors have cosine 1; a zero vector and a nonzero vector have cosine 0.

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
    """Compute ``1 - cosine`` and ``||a - b|| / ||a||`` for each pair of vectors.

    The computation uses float64. If a vector has a non-finite value, both distances of its pair
    are 1.

    Args:
        a: Vectors (M, D) of side A.
        b: Vectors (M, D) of side B.
    """
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(wide_a).all(axis=1) & np.isfinite(wide_b).all(axis=1)
    wide_a[~finite], wide_b[~finite] = 0, 0
    norms = [np.linalg.norm(side, axis=1) for side in (wide_a, wide_b)]
    # 1 - cosine equals half the squared distance between the unit vectors. This form loses no
    # digits to cancellation when the cosine is close to 1.
    # A zero vector stays zero here; its distance is set below.
    units = [
        side / np.maximum(norm, 1e-300)[:, None]
        for side, norm in zip((wide_a, wide_b), norms, strict=True)
    ]
    cosine_distance = ((units[0] - units[1]) ** 2).sum(axis=1) / 2
    zeros = [norm == 0 for norm in norms]
    cosine_distance[zeros[0] != zeros[1]] = 1
    # Avoid division by zero: if A's vector is zero, divide by B's norm, or by 1 if both are zero.
    reference = np.where(zeros[0], np.where(zeros[1], 1, norms[1]), norms[0])
    rel_l2 = np.linalg.norm(wide_a - wide_b, axis=1) / reference
    cosine_distance[~finite] = rel_l2[~finite] = 1
    return cosine_distance, rel_l2


def _rounding(a: np.ndarray, b: np.ndarray) -> Float64[np.ndarray, " M"] | None:
    """Compute the relative L2 error that rounding to float16 causes in the wider side.

    Returns:
        The error of each pair; None if both sides or neither side is float16.
    """
    if (a.dtype == _ROUNDING) == (b.dtype == _ROUNDING):
        return None
    wide = (b if a.dtype == _ROUNDING else a).astype(np.float32)
    limit = np.finfo(_ROUNDING).max  # the writer also clips to the range of float16
    return feature_distances(wide, wide.clip(-limit, limit).astype(_ROUNDING))[1]


def _same(a: np.ndarray | None, b: np.ndarray | None, pairs: Matching) -> np.ndarray | None:
    return None if a is None or b is None else a[pairs.a] == b[pairs.b]


def _identical(a: RegionBatch, b: RegionBatch) -> bool:
    for name in a.__dataclass_fields__:
        one, two = getattr(a, name), getattr(b, name)
        # A column that only one side has makes the images different.
        if (one is None) != (two is None):
            return False
        # Bytes are compared, because NaN does not equal itself.
        if one is not None and (
            one.dtype != two.dtype or one.shape != two.shape or one.tobytes() != two.tobytes()
        ):
            return False
    return True


def _mean(values: np.ndarray | None) -> float | None:
    return None if values is None or not len(values) else float(values.mean())


# The maximum for sign 1, the minimum for sign -1.
def _most(values: np.ndarray | None, sign: int) -> float | None:
    return None if values is None or not len(values) else sign * float((sign * values).max())


def _cosine(distance: float | None) -> float | None:
    return None if distance is None else 1 - distance


def _count(flags: np.ndarray | None) -> int | None:
    return None if flags is None else int(flags.sum())
