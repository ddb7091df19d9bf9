"""The detector protocol: everything that your own detector class has to provide.

Shapes: N: images; R: boxes per image; D: feature length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from vlray.config.detector import TOP_CLASSES, DetectorSection
from vlray.regions.batch import RegionBatch


@dataclass(frozen=True)
class DetectorInfo:
    """Description of a detector, stored with each of its outputs."""

    name: str
    """The preset's name, or a name that the detector chooses."""

    feature_dim: int
    """Length D of a region's feature vector."""

    obj_names: tuple[str, ...] = ()
    """Names of the object classes, indexed by ``obj_ids``; empty if none are predicted."""

    attr_names: tuple[str, ...] = ()
    """Names of the attributes, indexed by ``attr_ids``; empty if none are predicted."""

    weights_sha256: str = ""
    """SHA-256 of the weights file, in hexadecimal; empty if the detector has no such file."""

    conventions: Mapping[str, object] = field(default_factory=dict)
    """Rules that turn an image into regions, as plain types; stored as an output's provenance."""


def wide_columns(info: DetectorInfo, options: DetectorSection) -> dict[str, int]:
    """Return the columns with several values for each region that the options ask for.

    Returns:
        The number of values, keyed by the column's name in ``vlray.regions.schema.WIDE``.

    Raises:
        ValueError: The detector has no classes or no attributes.
    """
    objects, attributes = len(info.obj_names), len(info.attr_names)
    for option, is_set, number, what in (
        ("class_probs", options.class_probs != "none", objects, "classes"),
        ("max_attributes", options.max_attributes > 1, attributes, "attributes"),
    ):
        if is_set and not number:
            raise ValueError(
                f"detector.{option} is set, but {info.name} has no {what}; remove the option"
            )
    columns = {}
    if options.class_probs == "all":
        columns["cls_probs"] = objects
    elif options.class_probs == "top5":
        columns |= dict.fromkeys(("top_obj_ids", "top_obj_probs"), min(TOP_CLASSES, objects))
    if options.max_attributes > 1:
        number = min(options.max_attributes, attributes)
        columns |= dict.fromkeys(("top_attr_ids", "top_attr_probs"), number)
    return columns


class Detector(Protocol):
    """A callable that takes decoded images and returns a ``RegionBatch``.

    Each actor holds one instance. An instance keeps no state between calls: after a failure, any
    batch may run again on another actor. The same images must always produce the same regions.

    A class may also have a classmethod ``resize(options) -> Resize``, which returns the function
    that resizes an image to the detector's input size. vlray then runs it while it decodes, in
    several threads at once and beside the detector, and the images of one call all have the same
    size after resizing. Without it, images arrive in their original size.

    Two more methods are optional; vlray refuses options that need a missing method:

    - ``pool_boxes(images, image_hw, boxes) -> RegionBatch`` pools boxes that the user supplies.
      ``images`` and ``image_hw`` are as in ``__call__``. ``boxes`` are N float32 arrays of shape
      (R, 4), in pixels of the original images; each box has a positive area and lies inside its
      image, with a tolerance of one pixel. The result must contain all of these boxes, unchanged
      and in the same order, with their feature vectors and labels. Nothing is selected.
    - ``grid(images, image_hw) -> RegionBatch`` is called if ``options.features`` is ``grid``. It
      returns grid features: the cells of a feature map over the whole image, row by row, without
      labels. ``options.grid_layer`` and ``options.grid_size`` choose the map and its size;
      ``info.feature_dim`` is then the length of a cell's vector.

    If ``options.class_probs`` or ``options.max_attributes`` is set, the result also needs the
    columns that ``wide_columns`` names; a detector without them cannot be used with the option.

    ``vlray tune`` can search a detector's thresholds without running it again, provided that the
    detector selects regions with ``vlray.detect.selection.select_regions``. The boxes passed to
    that function must be exactly as the detector returns them, in pixels of the original image.
    """

    info: DetectorInfo

    def __init__(self, options: DetectorSection) -> None:
        """Load the weights onto ``options.device``."""

    def __call__(self, images: Sequence[np.ndarray], image_hw: np.ndarray) -> RegionBatch:
        """Detect the regions in N images of one size.

        Args:
            images: N BGR arrays of shape (height, width, 3): the results of ``resize`` if the
                class has it, otherwise the original images in uint8.
            image_hw: (N, 2) int32, height and width of the original images in pixels.

        Returns:
            The regions of the N images, in the images' order. Boxes are in pixels of the original
            images and clipped to them.
        """
        ...


Resize = Callable[[np.ndarray], np.ndarray]
"""Picklable function from a decoded image (height, width, 3) to the detector's input array, which
it must not reuse for another image. Several threads call it at once."""
