"""A detector as a user would write it in a file of their own: colours of a grid of cells.

``detector.options`` make it misbehave, for the tests of what happens then.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vlray.config.detector import DetectorSection
from vlray.detect.protocol import DetectorInfo
from vlray.images.resize import ResizeShortestEdge
from vlray.regions.batch import RegionBatch

CELLS = 4  # a side


class GridDetector:
    """Finds CELLS x CELLS regions in every image; a region's vector holds its mean colours.

    Options:
        seconds: How long an image takes.
        trouble: A file; while it exists, one image in two raises.
        always: Raise on every image.
        poison: Raise on every image whose mean colour is above this.
        hold: A folder; each process leaves its number there, and waits while it has a file "wait".
        fatal: A file; while it exists, abort on images whose mean colour is above its number.
    """

    info = DetectorInfo("grid", feature_dim=8, obj_names=("dark", "bright"))

    @classmethod
    def resize(cls, options: DetectorSection) -> ResizeShortestEdge:
        return ResizeShortestEdge(options.min_size or 64, options.max_size or 128)

    def __init__(self, options: DetectorSection) -> None:
        self._section = options
        self._options = options.options
        self._random = random.Random(os.getpid())

    def __call__(self, images: Sequence[np.ndarray], image_hw: np.ndarray) -> RegionBatch:
        return RegionBatch.concat(
            [self._one(image, image_hw[index : index + 1]) for index, image in enumerate(images)]
        )

    def pool_boxes(
        self, images: Sequence[np.ndarray], image_hw: np.ndarray, boxes: Sequence[np.ndarray]
    ) -> RegionBatch:
        """Give the mean colours of each box, in place of everything else zeros."""
        feats = []
        for image, (height, width), given in zip(images, image_hw, boxes, strict=True):
            self._misbehave(image)
            scale = np.tile(image.shape[1::-1] / np.array([width, height]), 2)
            for x1, y1, x2, y2 in np.rint(given * scale).astype(int):
                cell = image[max(y1, 0) : max(y2, 1), max(x1, 0) : max(x2, 1)]
                feats.append([*cell.mean((0, 1)), *[0] * 5])
        found = np.array(feats, np.float32).reshape(-1, 8)
        bright = found[:, :3].mean(1) / 255
        return RegionBatch(
            image_hw,
            np.array([len(given) for given in boxes], np.int32),
            np.concatenate(boxes),
            found,
            (bright > 0.5).astype(np.int32),
            bright,
        )

    def grid(self, images: Sequence[np.ndarray], image_hw: np.ndarray) -> RegionBatch:
        """Give all cells, without labels."""
        size = self._section.grid_size or CELLS
        parts = [
            self._one(image, image_hw[index : index + 1], size, limit=size * size)
            for index, image in enumerate(images)
        ]
        return replace(RegionBatch.concat(parts), obj_ids=None, obj_probs=None)

    def _one(
        self, image: np.ndarray, image_hw: np.ndarray, size: int = CELLS, limit: int = 0
    ) -> RegionBatch:
        self._misbehave(image)
        height, width = image.shape[:2]
        ys = np.linspace(0, height, size + 1).astype(int)
        xs = np.linspace(0, width, size + 1).astype(int)
        boxes, feats = [], []
        for row in range(size):
            for column in range(size):
                cell = image[ys[row] : ys[row + 1], xs[column] : xs[column + 1]]
                feats.append([*cell.mean((0, 1)), *cell.std((0, 1)), row, column])
                boxes.append([xs[column], ys[row], xs[column + 1], ys[row + 1]])
        scale = image_hw[0] / (height, width)
        limit = limit or self._section.max_boxes
        feats = np.array(feats, np.float32)[:limit]
        boxes = (np.array(boxes) * np.tile(scale[::-1], 2))[:limit]
        bright = feats[:, :3].mean(1) / 255
        return RegionBatch(
            image_hw,
            np.array([len(boxes)], np.int32),
            boxes.astype(np.float32),
            feats,
            (bright > 0.5).astype(np.int32),
            bright.astype(np.float32),
        )

    def _misbehave(self, image: np.ndarray) -> None:
        time.sleep(self._options.get("seconds", 0))
        if hold := self._options.get("hold"):
            Path(hold, str(os.getpid())).touch()
            while Path(hold, "wait").exists():
                time.sleep(0.05)
        if self._options.get("always"):
            raise RuntimeError("this detector always raises")
        if image.mean() > self._options.get("poison", 256):
            raise RuntimeError(f"an image of mean {image.mean():.0f} is too bright for me")
        fatal = self._options.get("fatal")
        if fatal and Path(fatal).exists() and image.mean() > float(Path(fatal).read_text()):
            os.abort()
        trouble = self._options.get("trouble")
        if trouble and Path(trouble).exists() and self._random.random() < 0.5:
            raise RuntimeError("trouble that will pass")
