"""Keep the images that differ most, by several measures, and nothing of the others."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlray.comparison.join import Joined
from vlray.comparison.metrics import Figures
from vlray.regions.batch import RegionBatch


@dataclass(frozen=True, eq=False)
class Labelled:
    """Boxes of one side of an image with their labels, without vectors."""

    image_hw: tuple[int, int]
    boxes: np.ndarray
    obj_ids: np.ndarray | None
    obj_probs: np.ndarray | None
    attr_ids: np.ndarray | None
    attr_probs: np.ndarray | None


@dataclass(frozen=True, eq=False)
class BadImage:
    """What the page shows of one image."""

    image_id: str
    path_a: str
    path_b: str
    a: Labelled
    b: Labelled
    figures: Figures


def _share_of(flags: np.ndarray | None) -> float:
    return 0.0 if flags is None or not len(flags) else 1 - float(flags.mean())


def _mean_of(values: np.ndarray | None) -> float:
    return 0.0 if values is None or not len(values) else float(values.mean())


ORDERS: dict[str, tuple[str, Callable[[Figures], float]]] = {
    "unmatched": (
        "most boxes without a partner",
        lambda figures: figures.unmatched / max(figures.num_a + figures.num_b, 1),
    ),
    "cosine": ("features: lowest mean cosine", lambda f: _mean_of(f.cosine_distance)),
    "class": ("most other classes", lambda f: _share_of(f.same_class)),
    "attribute": ("most other attributes", lambda f: _share_of(f.same_attribute)),
    "score": (
        "scores: largest mean difference",
        lambda f: 0.0 if f.score_diff is None else _mean_of(abs(f.score_diff)),
    ),
    "iou": ("boxes: lowest mean IoU", lambda f: _mean_of(1 - f.pairs.iou)),
}
"""How images are ordered: the title, and how bad an image is; 0 is perfect."""


class Worst:
    """The ``count`` worst images of each order; perfect ones are in none."""

    def __init__(self, count: int) -> None:
        """Begin with no image."""
        self._count = count
        self._heaps: dict[str, list[tuple[float, int, BadImage]]] = {name: [] for name in ORDERS}
        self._seen = 0

    def add(self, image: Joined, figures: Figures) -> None:
        """Take an image into the orders in which it is among the worst so far."""
        self._seen += 1
        if not self._count:
            return
        kept: BadImage | None = None
        for name, (_, badness) in ORDERS.items():
            heap = self._heaps[name]
            value = badness(figures)
            # Of equally bad images the first ones stay.
            if value <= 0 or (len(heap) == self._count and value <= heap[0][0]):
                continue
            kept = kept or _without_vectors(image, figures)
            item = (value, -self._seen, kept)
            if len(heap) < self._count:
                heapq.heappush(heap, item)
            else:
                heapq.heapreplace(heap, item)

    def images(self) -> tuple[list[BadImage], dict[str, list[int]]]:
        """Give the images, each once, and each order as indices into them, the worst first."""
        images: list[BadImage] = []
        places: dict[int, int] = {}
        orders = {}
        for name, heap in self._heaps.items():
            for _, order, image in sorted(heap, reverse=True):
                if order not in places:
                    places[order] = len(images)
                    images.append(image)
            orders[name] = [places[order] for _, order, _ in sorted(heap, reverse=True)]
        return images, orders


def _without_vectors(image: Joined, figures: Figures) -> BadImage:
    return BadImage(
        image.image_id,
        image.path_a,
        image.path_b,
        _labelled(image.a),
        _labelled(image.b),
        figures,
    )


def _labelled(regions: RegionBatch) -> Labelled:
    """Copy what is shown: a slice would keep the arrays of all its neighbours in memory."""
    columns: dict[str, Any] = {
        name: None if (values := getattr(regions, name)) is None else values.copy()
        for name in ("obj_ids", "obj_probs", "attr_ids", "attr_probs")
    }
    height, width = regions.image_hw[0].tolist()
    return Labelled((height, width), regions.boxes.copy(), **columns)
