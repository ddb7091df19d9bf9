"""What is measured on one image.

Shapes: A and B boxes of one image on the two sides, M of them matched, D feature length.
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
    """What the two outputs have in common, so that it can be compared; boxes always can.

    Attributes:
        features: Vectors of one length.
        objects: Classes of the same names.
        attributes: Attributes of the same names.
        all: Whether nothing of either side is left out.
    """

    features: bool
    objects: bool
    attributes: bool
    all: bool


@dataclass(frozen=True, eq=False)
class Figures:
    """Two sides of one image. Arrays have one value for each pair of boxes; None: not compared.

    Attributes:
        num_a: Boxes of side A.
        num_b: Boxes of side B.
        pairs: Which belong together.
        cosine_distance: 1 - cosine of the two features.
        rel_l2: ``||a - b|| / ||a||``.
        rounding: ``||a - float16(a)|| / ||a||`` where just one side is stored as float16, so that
            this much of ``rel_l2`` is nothing but rounding.
        score_diff: Score of B minus score of A.
        same_class: Whether the classes are equal.
        same_attribute: Whether the attributes are equal.
        same_size: Whether both sides say the same of the image's size.
        identical: Whether everything stored is equal, bit for bit and in the same order.
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
        """Count the boxes of both sides that have no partner."""
        return self.num_a + self.num_b - 2 * len(self.pairs)

    def as_row(self) -> dict[str, Any]:
        """Sum them up in plain values, as ``compare.json`` has them for each image."""
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
) -> Figures:
    """Match the boxes of one image and measure each pair.

    Where the sides disagree about the image's size, B's boxes are scaled to A's before. A feature
    of zeros has a cosine of 1 to its like and of 0 to any other.

    Args:
        a: One image of side A.
        b: The same image of side B.
        comparable: What else than boxes is to be compared.
        iou_thresh: Least IoU of a pair.
    """
    same_size = bool((a.image_hw == b.image_hw).all())
    boxes_b = b.boxes
    if not same_size:
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
    return Figures(
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

    Half precision is widened first. A vector with a value that is not finite is as far from any
    other as can be, 1 by both measures.

    Args:
        a: Vectors (M, D) of side A.
        b: Vectors (M, D) of side B.
    """
    one, two = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(one).all(axis=1) & np.isfinite(two).all(axis=1)
    one[~finite], two[~finite] = 0, 0
    norms = [np.linalg.norm(side, axis=1) for side in (one, two)]
    # Half the squared distance of the unit vectors: exact where the cosine is close to 1.
    units = [
        side / np.maximum(norm, 1e-300)[:, None]
        for side, norm in zip((one, two), norms, strict=True)
    ]
    cosine_distance = ((units[0] - units[1]) ** 2).sum(axis=1) / 2
    zeros = [norm == 0 for norm in norms]
    cosine_distance[zeros[0] != zeros[1]] = 1
    reference = np.where(zeros[0], np.where(zeros[1], 1, norms[1]), norms[0])
    rel_l2 = np.linalg.norm(one - two, axis=1) / reference
    cosine_distance[~finite] = rel_l2[~finite] = 1
    return cosine_distance, rel_l2


def _rounding(a: np.ndarray, b: np.ndarray) -> Float64[np.ndarray, " M"] | None:
    if (a.dtype == _ROUNDING) == (b.dtype == _ROUNDING):
        return None
    wide = (b if a.dtype == _ROUNDING else a).astype(np.float32)
    limit = np.finfo(_ROUNDING).max
    return feature_distances(wide, wide.clip(-limit, limit).astype(_ROUNDING))[1]


def _same(a: np.ndarray | None, b: np.ndarray | None, pairs: Matching) -> np.ndarray | None:
    return None if a is None or b is None else a[pairs.a] == b[pairs.b]


def _identical(a: RegionBatch, b: RegionBatch) -> bool:
    for name in a.__dataclass_fields__:
        one, two = getattr(a, name), getattr(b, name)
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
