"""Sum up the figures of all images; memory does not grow with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vlray.comparison.metrics import Figures
from vlray.comparison.spread import Spread

IOU_STEPS = (0.5, 0.7, 0.9, 0.99)


@dataclass
class Tally:
    """The figures of all images together.

    Attributes:
        boxes_a: Boxes of side A.
        boxes_b: Boxes of side B.
        matched: Pairs of boxes.
        matched_at: Pairs whose IoU is at least so much; steps below the threshold are left out.
        images: Images on both sides.
        identical: Images on which everything is equal, bit for bit.
        other_size: Images whose size the sides disagree about.
        more_a: Images with more boxes on side A.
        more_b: Images with more boxes on side B.
        iou: 1 - IoU of each pair.
        cosine: 1 - cosine of each pair's features.
        rel_l2: Relative L2 distance of each pair's features.
        rounding: How much of it is rounding, where one side is stored as float16.
        score_diff: Absolute difference of the scores.
        score_shift: Sum of B's scores minus A's.
        same_class: Pairs of one class, of ``classes`` in all.
        same_attribute: Pairs of one attribute, of ``attributes`` in all.
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

    def add(self, figures: Figures) -> None:
        """Count one image."""
        self.images += 1
        self.identical += figures.identical
        self.other_size += not figures.same_size
        self.boxes_a += figures.num_a
        self.boxes_b += figures.num_b
        self.more_a += figures.num_a > figures.num_b
        self.more_b += figures.num_a < figures.num_b
        self.matched += len(figures.pairs)
        for step in self.matched_at:
            self.matched_at[step] += int((figures.pairs.iou >= step).sum())
        self.iou.add(1 - figures.pairs.iou)
        for spread, values in (
            (self.cosine, figures.cosine_distance),
            (self.rel_l2, figures.rel_l2),
            (self.rounding, figures.rounding),
        ):
            if values is not None:
                spread.add(values)
        if figures.score_diff is not None:
            self.score_diff.add(abs(figures.score_diff))
            self.score_shift += float(figures.score_diff.sum())
        if figures.same_class is not None:
            self.same_class += int(figures.same_class.sum())
            self.classes += len(figures.pairs)
        if figures.same_attribute is not None:
            self.same_attribute += int(figures.same_attribute.sum())
            self.attributes += len(figures.pairs)

    def share(self, pairs: int) -> float:
        """Give the share of both sides' boxes that so many pairs are; 1 where there is no box."""
        boxes = self.boxes_a + self.boxes_b
        return 2 * pairs / boxes if boxes else 1.0

    def as_dict(self) -> dict[str, Any]:
        """Give the figures in plain values, as ``compare.json`` has them under ``overall``."""
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
