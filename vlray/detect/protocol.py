"""The protocol of a detector: everything that a detector class of your own has to conform to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from vlray.config.detector import DetectorSection
from vlray.regions.batch import RegionBatch


@dataclass(frozen=True)
class DetectorInfo:
    """Description of a detector, stored with every output that it makes."""

    name: str
    """The preset's name, or a name that the detector chooses."""

    feature_dim: int
    """Length D of a region's feature vector."""

    obj_names: tuple[str, ...] = ()
    """Object classes; ``obj_ids`` are indices into it. Empty: the detector predicts no classes."""

    attr_names: tuple[str, ...] = ()
    """Attributes; ``attr_ids`` are indices into it. Empty: the detector predicts no attributes."""

    weights_sha256: str = ""
    """SHA-256 of the weights file, hexadecimal; empty if there is no such file."""

    conventions: Mapping[str, Any] = field(default_factory=dict)
    """Rules that turn an image into regions, in plain types; part of an output's provenance."""


class Detector(Protocol):
    """A callable that takes decoded images and returns a ``RegionBatch``.

    Each actor holds one instance. An instance keeps no state between calls: after a failure, any
    batch may run again on another actor. The same images must always produce the same regions.

    A class may also have a classmethod ``resize(options) -> Resize``, which returns the function
    that resizes an image to the detector's input size. vlray then runs it in the decoding tasks,
    and the images of one call all have the same resized size. Without it, images arrive in their
    original size.

    Two more methods are optional; vlray refuses options that need a missing one:

    - ``pool_boxes(images, image_hw, boxes) -> RegionBatch`` pools boxes that the user supplies.
      Images and image_hw are as in ``__call__``. Boxes are N arrays (R, 4), float32, in pixels of
      the original images; each box has an area and lies in its image, within one pixel. The
      result must contain all of these boxes, unchanged and in the same order, with their feature
      vectors and labels. Nothing is selected.
    - ``grid(images, image_hw) -> RegionBatch`` computes grid features if ``options.features`` is
      ``grid``: the cells of a feature map over the whole image, row by row, without labels.
      ``options.grid_layer`` and ``options.grid_size`` choose the map and its size;
      ``info.feature_dim`` is then the length of a cell's vector.

    ``vlray tune`` can search the thresholds of a detector without running it again if the detector
    selects its regions with ``vlray.detect.selection.select_regions``, from boxes in pixels of the
    original image, exactly as it returns them.
    """

    info: DetectorInfo

    def __init__(self, options: DetectorSection) -> None:
        """Load the weights onto ``options.device``."""

    def __call__(self, images: Sequence[np.ndarray], image_hw: np.ndarray) -> RegionBatch:
        """Detect the regions of N images of one size.

        Args:
            images: N arrays (height, width, 3), uint8, BGR; resized if the class has ``resize``.
            image_hw: (N, 2) int32, height and width of the original images in pixels.

        Returns:
            Regions of the N images in their order; boxes in pixels of the original images,
            clipped to them.
        """
        ...


Resize = Callable[[np.ndarray], np.ndarray]
"""Picklable function from a decoded image (height, width, 3) to the detector's input array."""
