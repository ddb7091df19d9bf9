"""Check that a detector and its regions conform to ``protocol.py``. Does not import torch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32

from vlray.config.detector import DetectorSection
from vlray.detect.protocol import Detector, DetectorInfo
from vlray.regions.batch import RegionBatch

HOW_TO = """A detector is a class like this (the details are in vlray/detect/protocol.py):

    from vlray.detect.protocol import DetectorInfo
    from vlray.regions.batch import RegionBatch

    class Mine:
        def __init__(self, options):
            self.info = DetectorInfo(name="mine", feature_dim=512)
        def __call__(self, images, image_hw):
            return RegionBatch(image_hw, num_boxes, boxes, visual_feats)"""

# In pixels. Boxes are scaled and clipped in float32; the rounding error is far below this.
_TOLERANCE = 0.01
# Allowed dtype kinds of each column, in NumPy's codes: f is float, i and u are integers.
_COLUMNS = {
    "boxes": "f",
    "visual_feats": "f",
    "obj_ids": "iu",
    "obj_probs": "f",
    "attr_ids": "iu",
    "attr_probs": "f",
}


def build_detector(cls: Any, options: DetectorSection, target: str) -> Detector:
    """Create a detector, and check everything that can be checked without an image.

    Args:
        cls: The object that ``target`` refers to.
        options: Options that ``load.settled`` returned.
        target: ``module:Class`` or ``file.py:Class``, for error messages.

    Raises:
        ValueError: ``cls`` is not a class or does not take the options; or the detector is not
            callable, or its ``info`` is not a ``DetectorInfo``.
    """
    if not isinstance(cls, type):
        raise ValueError(f"{target} must be a class, but is {cls!r}. {HOW_TO}")
    try:
        inspect.signature(cls).bind(options)
    except TypeError as error:
        raise ValueError(
            f"{target} cannot be created with the options as its only argument ({error}). {HOW_TO}"
        ) from error
    make: Any = cls
    detector: Detector = make(options)
    info = getattr(detector, "info", None)
    if not isinstance(info, DetectorInfo):
        raise ValueError(
            f"{target}: the attribute info must be a DetectorInfo, but is {info!r}. {HOW_TO}"
        )
    if not callable(detector):
        raise ValueError(f"{target} has no method __call__. {HOW_TO}")
    return detector


def refuse_backbone_precision(options: DetectorSection) -> None:
    """Refuse a precision of the backbone, which only the Visual Genome detectors support.

    Raises:
        ValueError: ``backbone_precision`` is not the default.
    """
    if options.backbone_precision != "fp32":
        raise ValueError(
            f"detector.backbone_precision={options.backbone_precision} works only with vg-caffe "
            "and vg-pbua; remove it"
        )


def refuse_vg_options(options: DetectorSection) -> None:
    """Refuse options that only the Visual Genome detectors and VinVL's support.

    Raises:
        ValueError: ``precision`` or ``post_nms_topk`` is not the default.
    """
    if options.precision != "fp32":
        raise ValueError(
            f"detector.precision={options.precision} works only with vg-caffe, vg-pbua and vinvl; "
            "remove it: this detector runs in fp32"
        )
    if options.post_nms_topk:
        raise ValueError(
            f"detector.post_nms_topk={options.post_nms_topk} works only with vg-caffe, "
            "vg-pbua and vinvl; set MODEL.RPN.POST_NMS_TOPK_TEST in a Detectron2 configuration "
            "instead"
        )


def refuse_vinvl_options(options: DetectorSection) -> None:
    """Refuse options that only VinVL's detector supports.

    Raises:
        ValueError: ``nms_filter`` or ``labels`` is not the default.
    """
    for name in ("nms_filter", "labels"):
        if value := getattr(options, name):
            raise ValueError(
                f"detector.{name}={value} works only with vinvl; remove it, or pass --name vinvl"
            )


def check_regions(
    batch: object,
    image_hw: Int32[np.ndarray, "N 2"],
    info: DetectorInfo,
    user_boxes: Sequence[np.ndarray] | None = None,
) -> None:
    """Check the regions that a detector returned for N images.

    Args:
        batch: The returned object.
        image_hw: Height and width of the original images, as passed to the detector.
        info: The detector's description.
        user_boxes: Boxes that the detector had to pool, one array per image. None: it detected
            its own regions.

    Raises:
        ValueError: ``batch`` is not a ``RegionBatch`` for these images, or contains an invalid
            value; the message names the detector and the problem.
    """
    who = f"the detector {info.name!r}"  # subject of the error messages
    if not isinstance(batch, RegionBatch):
        raise ValueError(f"{who} returned {type(batch).__name__}, not a RegionBatch. {HOW_TO}")
    if not np.array_equal(batch.image_hw, image_hw):
        raise ValueError(
            f"{who} received image_hw={image_hw.tolist()}, but returned "
            f"image_hw={np.asarray(batch.image_hw).tolist()}; return it unchanged"
        )
    num_boxes = np.asarray(batch.num_boxes)
    if num_boxes.ndim != 1 or num_boxes.dtype.kind not in "iu" or (num_boxes < 0).any():
        raise ValueError(f"{who}: num_boxes is {num_boxes}; return one count per image")
    _check_arrays(batch, info, who)
    images = np.repeat(np.arange(len(num_boxes)), num_boxes)  # index of each region's image
    if user_boxes is None:
        _check_boxes(batch, images, who)
    else:
        _check_user_boxes(batch, user_boxes, who)
    for name in ("visual_feats", "obj_probs", "attr_probs"):
        values = getattr(batch, name)
        if values is not None:
            bad = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
            if bad.any():
                raise ValueError(f"{who}: {name} contains NaN or inf in {_first(bad, images)}")
    for kind, names in (("obj", info.obj_names), ("attr", info.attr_names)):
        _check_labels(batch, kind, names, who)


def _check_arrays(batch: RegionBatch, info: DetectorInfo, who: str) -> None:
    regions = int(batch.num_boxes.sum())
    shapes = {"boxes": (regions, 4), "visual_feats": (regions, info.feature_dim)}
    for name, kinds in _COLUMNS.items():
        values = getattr(batch, name)
        if values is None and name not in shapes:
            continue  # labels are optional
        if not isinstance(values, np.ndarray) or values.dtype.kind not in kinds:
            dtype = getattr(values, "dtype", "")
            raise ValueError(
                f"{who}: {name} has the type {type(values).__name__} {dtype}; return a NumPy "
                f"array of {'integers' if 'i' in kinds else 'floats'}"
            )
        expected = shapes.get(name, (regions,))
        if values.shape != expected:
            raise ValueError(
                f"{who}: {name} has the shape {values.shape} instead of {expected}: num_boxes "
                f"adds up to {regions}, and feature_dim is {info.feature_dim}"
            )


def _check_boxes(batch: RegionBatch, images: np.ndarray, who: str) -> None:
    limits = batch.image_hw[images][:, [1, 0, 1, 0]]  # width, height, width, height
    boxes = batch.boxes
    with np.errstate(invalid="ignore"):
        # Comparisons with NaN are False, so this also rejects boxes that are not finite.
        bad = ~(
            (boxes >= -_TOLERANCE).all(1)
            & (boxes <= limits + _TOLERANCE).all(1)
            & (boxes[:, 2:] >= boxes[:, :2]).all(1)
        )
    if bad.any():
        row = int(bad.argmax())
        height, width = batch.image_hw[images[row]]
        raise ValueError(
            f"{who}: the box {boxes[row].tolist()} ({_first(bad, images)}) is invalid or outside "
            f"the image of {width}x{height} pixels; return x1, y1, x2, y2 in pixels of the "
            "original image, clipped to it"
        )


def _check_user_boxes(batch: RegionBatch, boxes: Sequence[np.ndarray], who: str) -> None:
    counts = [len(boxes_of_image) for boxes_of_image in boxes]
    if batch.num_boxes.tolist() != counts or not np.array_equal(batch.boxes, np.concatenate(boxes)):
        raise ValueError(
            f"{who}: pool_boxes must return all received boxes, unchanged and in the same order; "
            f"boxes per image: received {_joined(counts)}, returned "
            f"{_joined(batch.num_boxes.tolist())}"
        )


def _check_labels(batch: RegionBatch, kind: str, names: tuple[str, ...], who: str) -> None:
    ids, probs = getattr(batch, f"{kind}_ids"), getattr(batch, f"{kind}_probs")
    if not (ids is None) == (probs is None) == (not names):
        raise ValueError(
            f"{who}: {kind}_ids, {kind}_probs and info.{kind}_names must all be present or all "
            "be absent"
        )
    if ids is not None and len(ids) and not 0 <= ids.min() <= ids.max() < len(names):
        raise ValueError(
            f"{who}: {kind}_ids range from {ids.min()} to {ids.max()}, but info.{kind}_names has "
            f"{len(names)} names; each id must be an index into these names"
        )


def _joined(counts: list[int]) -> str:
    return ", ".join(map(str, counts)) or "no"


def _first(bad: np.ndarray, images: np.ndarray) -> str:
    """Describe the first bad region by its index within its image, and the image's index."""
    row = int(bad.argmax())
    image = int(images[row])
    return f"region {row - int(np.searchsorted(images, image))} of image {image}"
