"""A detector's modes: detect regions, pool the user's boxes, or compute grid features.

Does not import torch.

Shapes: N: images; R: boxes per image.
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
    """Describe the regions that a detector returns with these options.

    Grid cells have no labels. With ``features=none``, ``feature_dim`` is 0.
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
    """Run a detector on images of one size, and check the regions that it returns.

    Args:
        detector: A detector whose options passed ``check_modes``.
        options: The detector's options.
        images: Images of one size, resized if the detector has ``resize``.
        image_hw: Height and width of the original images, in pixels.
        boxes: Boxes to pool, one array per image, in pixels of the original image. None: detect
            regions or compute grid features, as ``options.features`` says.

    Raises:
        ValueError: The detector returned invalid regions for these images.
    """
    info = detector.info
    model: Any = detector  # pool_boxes and grid are optional, so the protocol has neither
    if boxes is not None:
        regions = model.pool_boxes(images, image_hw, boxes)
    elif options.features == "grid":
        regions, info = model.grid(images, image_hw), info_of(detector, options)
    else:
        regions = model(images, image_hw)
    check_regions(regions, image_hw, info, boxes)
    if options.features == "none":
        no_feats = np.zeros((len(regions.boxes), 0), np.float32)
        regions = replace(regions, visual_feats=no_feats)
    checked: RegionBatch = regions
    return checked
