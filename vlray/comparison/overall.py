"""Metrics over all images, in constant memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from vlray.comparison.metrics import ImageMetrics
from vlray.comparison.spread import Spread
from vlray.settings.json_value import JsonObject

IOU_STEPS = (0.5, 0.7, 0.9, 0.99)


@dataclass
class OverallMetrics:
    """Running totals over all images.

    Attributes:
        iou_thresh: Minimum IoU of a matched pair.
        boxes_a: Number of boxes on side A.
        boxes_b: Number of boxes on side B.
        matched: Number of matched pairs.
        matched_at: Number of pairs that reach each IoU in ``IOU_STEPS``, keyed by IoU; steps below
            ``iou_thresh`` are left out.
        images: Number of images that both sides have.
        identical: Number of images whose stored columns are bitwise equal.
        other_size: Number of images whose size differs between the sides.
        more_a: Number of images with more boxes on side A.
        more_b: Number of images with more boxes on side B.
        iou: Distribution of 1 - IoU over the pairs.
        cosine: Distribution of 1 - cosine of the two features.
        rel_l2: Distribution of the relative L2 distance between the two features.
        rounding: Distribution of the part of ``rel_l2`` that rounding explains; empty unless
            exactly one side is float16.
        score_diff: Distribution of the absolute difference between the two scores.
        score_shift: B's score minus A's score, summed over all pairs.
        same_class: Number of pairs with equal classes.
        classes: Number of pairs whose classes were compared.
        same_attribute: Number of pairs with equal attributes.
        attributes: Number of pairs whose attributes were compared.
    """

    iou_thresh: float
    boxes_a: int = 0
    boxes_b: int = 0
    matched: int = 0
    matched_at: dict[float, int] = field(default_factory=dict)
    images: int = 0
    identical: int = 0
    other_size: int = 0
    more_a: int = 0
    more_b: int = 0
    iou: Spread = field(default_factory=Spread)
    cosine: Spread = field(default_factory=Spread)
    rel_l2: Spread = field(default_factory=Spread)
    rounding: Spread = field(default_factory=Spread)
    score_diff: Spread = field(default_factory=Spread)
    score_shift: float = 0.0
    same_class: int = 0
    classes: int = 0
    same_attribute: int = 0
    attributes: int = 0

    def __post_init__(self) -> None:
        self.matched_at = {step: 0 for step in IOU_STEPS if step >= self.iou_thresh}

    def add(self, metrics: ImageMetrics) -> None:
        """Add the metrics of one image."""
        self.images += 1
        self.identical += metrics.identical
        self.other_size += not metrics.same_size
        self.boxes_a += metrics.num_a
        self.boxes_b += metrics.num_b
        self.more_a += metrics.num_a > metrics.num_b
        self.more_b += metrics.num_a < metrics.num_b
        self.matched += len(metrics.pairs)
        for step in self.matched_at:
            self.matched_at[step] += int((metrics.pairs.iou >= step).sum())
        # A Spread holds distances, so store 1 - IoU.
        self.iou.add(1 - metrics.pairs.iou)
        for spread, values in (
            (self.cosine, metrics.cosine_distance),
            (self.rel_l2, metrics.rel_l2),
            (self.rounding, metrics.rounding),
        ):
            if values is not None:
                spread.add(values)
        if metrics.score_diff is not None:
            self.score_diff.add(abs(metrics.score_diff))
            self.score_shift += float(metrics.score_diff.sum())
        if metrics.same_class is not None:
            self.same_class += int(metrics.same_class.sum())
            self.classes += len(metrics.pairs)
        if metrics.same_attribute is not None:
            self.same_attribute += int(metrics.same_attribute.sum())
            self.attributes += len(metrics.pairs)

    def share(self, pairs: int) -> float:
        """Return the fraction of all boxes that this many pairs cover; 1 if there are no boxes."""
        # A pair covers one box on each side.
        boxes = self.boxes_a + self.boxes_b
        return 2 * pairs / boxes if boxes else 1.0

    def as_dict(self) -> JsonObject:
        """Return the totals as ``compare.json`` stores them under ``overall``."""
        return {
            "boxes_a": self.boxes_a,
            "boxes_b": self.boxes_b,
            "images_with_more_boxes_in_a": self.more_a,
            "images_with_more_boxes_in_b": self.more_b,
            "matched": self.matched,
            "matched_share": self.share(self.matched),
            "matched_share_a": self.matched / self.boxes_a if self.boxes_a else None,
            "matched_share_b": self.matched / self.boxes_b if self.boxes_b else None,
            "matched_share_at_iou": {
                f"{step:g}": self.share(pairs) for step, pairs in self.matched_at.items()
            },
            "iou": _similarity(self.iou),
            "cosine": _similarity(self.cosine),
            "rel_l2": _distance(self.rel_l2),
            "rel_l2_of_rounding": _distance(self.rounding),
            "score_diff": _distance(self.score_diff),
            "score_shift_mean": (
                self.score_shift / self.score_diff.count if self.score_diff.count else None
            ),
            "same_class": self.same_class if self.classes else None,
            "same_class_share": self.same_class / self.classes if self.classes else None,
            "same_attribute": self.same_attribute if self.attributes else None,
            "same_attribute_share": (
                self.same_attribute / self.attributes if self.attributes else None
            ),
        }


def _similarity(spread: Spread) -> dict[str, float] | None:
    if not spread.count:
        return None
    return {
        "mean": 1 - spread.mean,
        "median": 1 - spread.percentile(0.5),
        # The spread holds 1 - similarity: its high percentiles are the low ones of the similarity.
        "p5": 1 - spread.percentile(0.95),
        "p1": 1 - spread.percentile(0.99),
        "min": 1 - spread.worst,
    }


def _distance(spread: Spread) -> dict[str, float] | None:
    if not spread.count:
        return None
    return {
        "mean": spread.mean,
        "median": spread.percentile(0.5),
        "p95": spread.percentile(0.95),
        "p99": spread.percentile(0.99),
        "max": spread.worst,
    }
