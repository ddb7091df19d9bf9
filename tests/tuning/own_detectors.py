"""Detectors of a user's own, as they would be in a file: their boxes are those of bright cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vlray.config.detector import DetectorSection
from vlray.detect.protocol import DetectorInfo
from vlray.detect.selection import select_regions
from vlray.images.resize import ResizeShortestEdge
from vlray.regions.batch import RegionBatch

CELL = 12
SIDES = (20.0, 31.0, 47.0)


class Bright:
    """Boxes of three sizes around each cell; classes and scores are of the colours in it."""

    info = DetectorInfo("bright", feature_dim=3, obj_names=("blue", "green", "red"))

    @classmethod
    def resize(cls, options: DetectorSection) -> ResizeShortestEdge:
        return ResizeShortestEdge(options.min_size or 96, options.max_size or 160)

    def __init__(self, options: DetectorSection) -> None:
        self.options = options

    def __call__(self, images: Sequence[np.ndarray], image_hw: np.ndarray) -> RegionBatch:
        found = [self._one(image, hw) for image, hw in zip(images, image_hw, strict=True)]
        return RegionBatch.concat(found)

    def _one(self, image: np.ndarray, hw: np.ndarray) -> RegionBatch:
        height, width = (side // CELL * CELL for side in image.shape[:2])
        cells = image[:height, :width].reshape(height // CELL, CELL, width // CELL, CELL, 3)
        colours = cells.mean((1, 3)).reshape(-1, 3)
        ys, xs = np.divmod(np.arange(len(colours)), width // CELL)
        centers = np.stack([xs, ys], 1) * CELL + CELL / 2
        boxes = np.concatenate([np.hstack([centers - s / 2, centers + s / 2]) for s in SIDES])
        limits = hw[[1, 0, 1, 0]].astype(np.float32)
        scale = limits / np.tile(image.shape[1::-1], 2)
        placed = np.clip((boxes * scale).astype(np.float32), 0, limits)
        probs = np.tile(colours / 256, (len(SIDES), 1)).astype(np.float32)
        rows, classes, scores = self.choose(placed, probs)
        return RegionBatch(
            hw[None],
            np.array([len(rows)], np.int32),
            placed[rows],
            probs[rows],
            classes.astype(np.int32),
            scores,
        )

    def choose(
        self, boxes: np.ndarray, probs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = select_regions(torch.from_numpy(boxes), torch.from_numpy(probs), self.options)
        rows, classes, scores = (values.numpy() for values in found)
        return rows, classes, scores


class Willful(Bright):
    """Keeps what scores above twice the threshold."""

    def choose(
        self, boxes: np.ndarray, probs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        scores = probs.max(1)
        rows = np.argsort(-scores, kind="stable")
        rows = rows[scores[rows] >= 2 * self.options.score_thresh][: self.options.max_boxes]
        return rows, probs[rows].argmax(1), scores[rows]


class Nameless(Bright):
    """Has no classes."""

    info = DetectorInfo("nameless", feature_dim=3)

    def __call__(self, images: Sequence[np.ndarray], image_hw: np.ndarray) -> RegionBatch:
        found = super().__call__(images, image_hw)
        return RegionBatch(found.image_hw, found.num_boxes, found.boxes, found.visual_feats)


class Tinted(Bright):
    """Names boxes that are given to it by their colour, and says whether they are bright."""

    info = DetectorInfo(
        "tinted",
        feature_dim=3,
        obj_names=("blue", "green,grass", "red"),
        attr_names=("dim", "bright"),
    )

    def pool_boxes(
        self, images: Sequence[np.ndarray], image_hw: np.ndarray, boxes: Sequence[np.ndarray]
    ) -> RegionBatch:
        colours = []
        for image, hw, given in zip(images, image_hw, boxes, strict=True):
            scale = np.tile(image.shape[1::-1] / hw[::-1], 2)
            for x1, y1, x2, y2 in np.rint(given * scale).astype(int):
                colours.append(image[y1:y2, x1:x2].mean((0, 1)))
        found = np.array(colours, np.float32)
        bright = found.max(1) > 128
        return RegionBatch(
            image_hw,
            np.array([len(given) for given in boxes], np.int32),
            np.concatenate(boxes),
            found,
            found.argmax(1).astype(np.int32),
            found.max(1) / 256,
            bright.astype(np.int32),
            np.ones(len(found), np.float32),
        )
