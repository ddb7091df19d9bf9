"""Detectors that raise where the stages around them make a mistake, or once at random."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vlray.config.detector import DetectorSection
from vlray.regions.batch import RegionBatch

_spec = importlib.util.spec_from_file_location(
    "grid_detector", Path(__file__).with_name("grid_detector.py")
)
assert _spec is not None
assert _spec.loader is not None
_grid = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_grid)


class OnceDetector(_grid.GridDetector):
    """Raises in its first call, as if memory had been short."""

    def __init__(self, options: DetectorSection) -> None:
        super().__init__(options)
        self._calm = False

    def __call__(self, images: Sequence[np.ndarray], image_hw: np.ndarray) -> RegionBatch:
        calm, self._calm = self._calm, True
        if not calm:
            raise MemoryError("for once")
        return super().__call__(images, image_hw)


class SizesDetector(_grid.GridDetector):
    """Wants two images at most, and of one size."""

    def __call__(self, images: Sequence[np.ndarray], image_hw: np.ndarray) -> RegionBatch:
        if len(images) > 2 or len({image.shape for image in images}) > 1:
            raise RuntimeError(f"images of {[image.shape for image in images]}")
        return super().__call__(images, image_hw)
