"""The ways to call a detector: find regions, pool given boxes, or give a grid; with vectors or not.

Shapes: N images, R boxes of one image. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from vlray.config.detector import DetectorSection
from vlray.detect.conform import check_regions
from vlray.detect.protocol import Detector, DetectorInfo
from vlray.regions.batch import RegionBatch


def info_of(detector: Detector, options: DetectorSection) -> DetectorInfo:
    """Say what the regions are like that the options ask for.

    Cells of a grid have no labels; without features a vector's length is 0.
    """
    info = detector.info
    if options.features == "grid":
        return replace(info, obj_names=(), attr_names=())
    return replace(info, feature_dim=0) if options.features == "none" else info


def regions_of(
    detector: Detector,
    options: DetectorSection,
    images: Sequence[np.ndarray],
    image_hw: Int32[np.ndarray, "N 2"],
    boxes: Sequence[Float32[np.ndarray, "R 4"]] | None = None,
) -> RegionBatch:
    """Run a detector on images of one size, and check what it returns.

    Args:
        detector: One that ``check_modes`` has no objection to.
        options: Its options.
        images: As its ``resize`` makes them.
        image_hw: Height and width of the original images, pixels.
        boxes: Those to pool, of each image, in pixels of the original image; None: its own.

    Raises:
        ValueError: It returned what no regions of these images can be.
    """
    info = detector.info
    model: Any = detector  # with methods that not every detector has
    if boxes is not None:
        regions = model.pool_boxes(images, image_hw, boxes)
    elif options.features == "grid":
        regions, info = model.grid(images, image_hw), info_of(detector, options)
    else:
        regions = model(images, image_hw)
    check_regions(regions, image_hw, info, boxes)
    if options.features == "none":
        nothing = np.zeros((len(regions.boxes), 0), np.float32)
        regions = replace(regions, visual_feats=nothing)
    found: RegionBatch = regions
    return found
