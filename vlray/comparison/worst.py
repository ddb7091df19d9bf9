"""The images that differ most, by several measures."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vlray.comparison.join import Joined
from vlray.comparison.metrics import ImageMetrics
from vlray.regions.batch import RegionBatch


@dataclass(frozen=True, eq=False)
class LabelledBoxes:
    """Boxes and labels of one image on one side, without feature vectors.

    Attributes:
        image_hw: Height and width of the original image, pixels.
        boxes: ``(x1, y1, x2, y2)`` of the R boxes, (R, 4), in pixels of the original image.
        obj_ids: Object class of each box; None: the output has no classes.
        obj_probs: Probability of each object class; None: not stored.
        attr_ids: Attribute of each box; None: the output has no attributes.
        attr_probs: Probability of each attribute; None: not stored.
    """

    image_hw: tuple[int, int]
    boxes: np.ndarray
    obj_ids: np.ndarray | None
    obj_probs: np.ndarray | None
    attr_ids: np.ndarray | None
    attr_probs: np.ndarray | None


@dataclass(frozen=True, eq=False)
class BadImage:
    """One image on the page: its boxes on both sides and its metrics.

    Attributes:
        image_id: Id of the image.
        path_a: Path of the image in A.
        path_b: Path of the image in B.
        a: Boxes of side A.
        b: Boxes of side B.
        metrics: Metrics of the image.
    """

    image_id: str
    path_a: str
    path_b: str
    a: LabelledBoxes
    b: LabelledBoxes
    metrics: ImageMetrics


def _share_unequal(flags: np.ndarray | None) -> float:
    return 0.0 if flags is None or not len(flags) else 1 - float(flags.mean())


def _mean_of(values: np.ndarray | None) -> float:
    return 0.0 if values is None or not len(values) else float(values.mean())


ORDERS: dict[str, tuple[str, Callable[[ImageMetrics], float]]] = {
    "unmatched": (
        "most boxes without a partner",
        lambda metrics: metrics.unmatched / max(metrics.num_a + metrics.num_b, 1),
    ),
    "cosine": ("features: lowest mean cosine", lambda f: _mean_of(f.cosine_distance)),
    "class": ("most different classes", lambda f: _share_unequal(f.same_class)),
    "attribute": ("most different attributes", lambda f: _share_unequal(f.same_attribute)),
    "score": (
        "scores: largest mean difference",
        lambda f: 0.0 if f.score_diff is None else _mean_of(abs(f.score_diff)),
    ),
    "iou": ("boxes: lowest mean IoU", lambda f: _mean_of(1 - f.pairs.iou)),
}
"""Sort orders of the page, keyed by name: a title, and a function that returns how much an image
differs (0: not at all)."""


class Worst:
    """The ``count`` worst images for each sort order; images without a difference are left out."""

    def __init__(self, count: int) -> None:
        """Initialize without images."""
        self._count = count
        self._heaps: dict[str, list[tuple[float, int, BadImage]]] = {name: [] for name in ORDERS}
        self._seen = 0

    def add(self, image: Joined, metrics: ImageMetrics) -> None:
        """Add an image to each order in which it is among the worst so far."""
        self._seen += 1
        if not self._count:
            return
        copy: BadImage | None = None
        for name, (_, badness) in ORDERS.items():
            heap = self._heaps[name]
            value = badness(metrics)
            # On a tie the earlier image stays, so that the page does not depend on later ones.
            if value <= 0 or (len(heap) == self._count and value <= heap[0][0]):
                continue
            # All orders share one copy; most images need none.
            copy = copy or _without_vectors(image, metrics)
            # The negative counter drops later images first on ties, and keeps the heap from ever
            # comparing two images.
            item = (value, -self._seen, copy)
            if len(heap) < self._count:
                heapq.heappush(heap, item)
            else:
                heapq.heapreplace(heap, item)

    def images(self) -> tuple[list[BadImage], dict[str, list[int]]]:
        """Return the distinct images, and for each order the indices of its images, worst first."""
        images: list[BadImage] = []
        indices: dict[int, int] = {}
        orders = {}
        for name, heap in self._heaps.items():
            # The counter identifies an image that is in several orders.
            # Sorted by value, then by the negative counter: earlier images come first.
            for _, order, image in sorted(heap, reverse=True):
                if order not in indices:
                    indices[order] = len(images)
                    images.append(image)
            orders[name] = [indices[order] for _, order, _ in sorted(heap, reverse=True)]
        return images, orders


def _without_vectors(image: Joined, metrics: ImageMetrics) -> BadImage:
    return BadImage(
        image.image_id,
        image.path_a,
        image.path_b,
        _labelled(image.a),
        _labelled(image.b),
        metrics,
    )


def _labelled(regions: RegionBatch) -> LabelledBoxes:
    """Copy boxes and labels; views would keep the arrays of the whole batch in memory."""
    columns: dict[str, np.ndarray | None] = {
        name: None if (values := getattr(regions, name)) is None else values.copy()
        for name in ("obj_ids", "obj_probs", "attr_ids", "attr_probs")
    }
    height, width = regions.image_hw[0].tolist()
    return LabelledBoxes((height, width), regions.boxes.copy(), **columns)
