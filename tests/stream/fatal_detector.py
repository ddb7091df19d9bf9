"""A detector whose process ends, or never answers, on black images."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import numpy as np

from vlray.config.detector import DetectorSection
from vlray.detect.protocol import DetectorInfo
from vlray.regions.batch import RegionBatch


def end_on_black(image: np.ndarray, mode: str) -> None:
    if not image.any() and mode == "abort":
        os.abort()
    while not image.any() and mode == "hang":
        time.sleep(1)


class Resizing:
    """Changes nothing."""

    def __init__(self, mode: str) -> None:
        self._mode = mode.removesuffix(" early") if mode.endswith(" early") else ""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        end_on_black(image, self._mode)
        return image


class FatalDetector:
    """Returns one region for each image: the whole image with its mean colour.

    Options:
        mode: ``abort``, ``hang``; ``abort early``, ``hang early``: already while the image is
            resized, that is, while it is decoded; anything else: black images are like others.
        broken: Raise in the constructor.
    """

    @classmethod
    def resize(cls, options: DetectorSection) -> Resizing:
        return Resizing(str(options.options.get("mode", "")))

    def __init__(self, options: DetectorSection) -> None:
        if options.options.get("broken"):
            raise RuntimeError("no such weights: model.pth")
        self._mode = options.options.get("mode", "")
        self.info = DetectorInfo(name="fatal", feature_dim=3)

    def __call__(self, images: Sequence[np.ndarray], image_hw: np.ndarray) -> RegionBatch:
        for image in images:
            end_on_black(image, self._mode)
        hw = image_hw.astype(np.float32)
        boxes = np.stack([0 * hw[:, 1], 0 * hw[:, 0], hw[:, 1], hw[:, 0]], 1)
        feats = np.stack([image.mean((0, 1)) for image in images]).astype(np.float32)
        return RegionBatch(image_hw, np.ones(len(images), np.int32), boxes, feats)
