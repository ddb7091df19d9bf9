"""What a detector is to vlray. A file of your own needs only to conform to this page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from vlray.config.detector import DetectorSection
from vlray.regions.batch import RegionBatch


@dataclass(frozen=True)
class DetectorInfo:
    """What an output says about the detector that made it."""

    name: str
    """The preset's name, or what the detector calls itself."""

    feature_dim: int
    """Length D of a region's vector."""

    obj_names: tuple[str, ...] = ()
    """Object classes; ``obj_ids`` are indices into it. Empty: the detector has no such head."""

    attr_names: tuple[str, ...] = ()
    """Attributes; ``attr_ids`` are indices into it. Empty: the detector has no such head."""

    weights_sha256: str = ""
    """Of the weights file, hexadecimal; empty where there is none."""

    conventions: Mapping[str, Any] = field(default_factory=dict)
    """The rules by which an image became regions, in plain types; part of the provenance."""


class Detector(Protocol):
    """Decoded images in, ``RegionBatch`` out. One instance lives in each actor.

    An instance keeps nothing between calls: any batch may run again, on another actor, after a
    failure. The same images must give the same regions.

    A class may also have ``resize(options) -> Resize`` (a classmethod): how each image is brought
    to the detector's input size. vlray then runs it in the decoding tasks, and the images of one
    call all have the same resized size. Without it, images arrive in their original size.

    Two more methods may be there; without them, vlray refuses what needs them:

    - ``pool_boxes(images, image_hw, boxes) -> RegionBatch``, for boxes that the user gives. Images
      and image_hw are as in a call; boxes are N arrays (R, 4), float32, in pixels of the original
      images, each of them filled and in its image, give or take a pixel. All of them come back, the
      very same numbers in the same order, with their vectors and labels; nothing is selected.
    - ``grid(images, image_hw) -> RegionBatch``, where ``options.features`` is ``grid``: the cells
      of a map over the whole image, row by row, without labels, as ``options.grid_layer`` and
      ``options.grid_size`` say; ``info.feature_dim`` is then the length of their vectors.

    Where it selects by ``vlray.detect.selection.select_regions``, on boxes in pixels of the
    original image as it returns them, ``vlray tune`` can search its thresholds without running it
    again.
    """

    info: DetectorInfo

    def __init__(self, options: DetectorSection) -> None:
        """Load the weights onto ``options.device``."""

    def __call__(self, images: Sequence[np.ndarray], image_hw: np.ndarray) -> RegionBatch:
        """Find the regions of N images of one size.

        Args:
            images: N arrays (height, width, 3), uint8, BGR, resized where the class says how.
            image_hw: (N, 2) int32, height and width of the original images in pixels.

        Returns:
            Regions of the N images in their order; boxes in pixels of the original images,
            clipped to them.
        """
        ...


Resize = Callable[[np.ndarray], np.ndarray]
"""Picklable; a decoded image (height, width, 3) in, the array that the detector wants out."""
