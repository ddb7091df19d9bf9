"""Detect regions in a few images with one call and without Ray, in notebooks and small scripts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image
from pydantic import ValidationError

from vlray.config.detector import DetectorSection
from vlray.detect.device import batch_size_of
from vlray.detect.load import check_modes, load_detector, resize_of, settled
from vlray.detect.modes import info_of, regions_of
from vlray.detect.protocol import Detector, DetectorInfo, Resize
from vlray.images.decode import ImageError, as_bgr
from vlray.regions.batch import RegionBatch
from vlray.regions.user_boxes import describe_invalid_box
from vlray.settings.options import nearest
from vlray.settings.wording import counted, explain_errors

AnyImage = str | Path | Image.Image | np.ndarray


def find_regions(
    images: AnyImage | Sequence[AnyImage],
    detector: str = "lite",
    *,
    boxes: ArrayLike | Sequence[ArrayLike] | None = None,
    **options: Any,
) -> RegionBatch:
    """Detect the regions in one or several images, with the same result as ``vlray extract``.

    On a CPU, the results are bitwise equal if torch uses the same number of threads
    (``torch.set_num_threads``); ``vlray extract`` logs that number. The first call loads the
    detector; later calls with the same options reuse it. Options have the package's defaults, not
    those set with ``vlray env``.

    Args:
        images: A path, a Pillow image or an array (RGB, uint8), or a list of them.
        detector: As ``--detector.name``: ``lite``, a stored name, a Detectron2 ``config.yaml``,
            or a class of your own.
        boxes: Boxes to pool instead of the detector's own regions, ``x1, y1, x2, y2`` in pixels of
            the original image: an array (R, 4) for one image, a list of such arrays for several.
            All boxes are returned, in the same order. For boxes that it detected, ``vg-caffe``
            returns the same features again. Other detectors move boxes after pooling, so their
            features for such boxes differ.
        options: The other options of ``--detector``, by name, such as ``max_boxes=10`` or
            ``features="grid"``.

    Returns:
        The regions, in the order of the images; iterate over the batch to get one image at a time.
        The class names for ``obj_ids`` are in ``detector_info(...).obj_names``.

    Raises:
        ValueError: No images are passed, the detector or an option does not exist, an image cannot
            be decoded, or a box is empty, not finite or outside its image.
        OSError: A file is missing or cannot be read.
    """
    several = [images] if isinstance(images, AnyImage) else list(images)
    if not several:
        raise ValueError("no images; pass a path, a Pillow image, an array, or a list of these")
    user_boxes = (
        None if boxes is None else _boxes(boxes, len(several), isinstance(images, AnyImage))
    )
    section = _settle(detector, options)
    check_modes(section, boxes_given=user_boxes is not None)
    model, resize, batch_size = _load(section.model_dump_json())
    arrays, image_hw = [], np.zeros((len(several), 2), np.int32)
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(several):
        pixels = _pixels(image)
        image_hw[index] = pixels.shape[:2]
        if user_boxes is not None and (
            problem := describe_invalid_box(user_boxes[index], *pixels.shape[:2])
        ):
            raise ValueError(f"image {index}: {problem}")
        arrays.append(pixels if resize is None else resize(pixels))
        groups.setdefault(arrays[index].shape, []).append(index)
    by_image: dict[int, RegionBatch] = {}
    for group in groups.values():  # padding would change features, so sizes are not mixed
        for start in range(0, len(group), batch_size):
            indices = group[start : start + batch_size]
            regions = regions_of(
                model,
                section,
                [arrays[index] for index in indices],
                image_hw[indices],
                None if user_boxes is None else [user_boxes[index] for index in indices],
            )
            by_image.update(zip(indices, regions, strict=True))
    return RegionBatch.concat([by_image[index] for index in range(len(several))])


def detector_info(detector: str = "lite", **options: Any) -> DetectorInfo:
    """Return a detector's class names, attribute names and feature length.

    Args:
        detector: As in ``find_regions``.
        options: As in ``find_regions``.

    Raises:
        ValueError: The detector or an option does not exist.
    """
    section = _settle(detector, options)
    return info_of(_load(section.model_dump_json())[0], section)


def _boxes(boxes: Any, count: int, single: bool) -> list[np.ndarray]:
    """Convert the user's boxes to one (R, 4) array for each image."""
    try:
        arrays = [
            np.asarray(one, np.float32).reshape(-1, 4) for one in ([boxes] if single else boxes)
        ]
    except (TypeError, ValueError) as error:
        raise ValueError(
            "boxes cannot be converted to arrays of x1, y1, x2, y2, one array for each image: "
            f"{error}"
        ) from error
    if len(arrays) != count:
        raise ValueError(
            f"got boxes for {counted(len(arrays), 'image')}, but {counted(count, 'image')}; pass "
            "one array of boxes for each image"
        )
    return arrays


def _pixels(image: AnyImage) -> np.ndarray:
    try:
        return as_bgr(image)
    except ImageError as error:
        if isinstance(image, (str, Path)):
            raise ImageError(f"{image}: {error.reason}") from error
        raise


def _settle(detector: str, options: dict[str, Any]) -> DetectorSection:
    """Validate the options, and resolve names and paths in them."""
    names = DetectorSection.model_fields.keys() - {"name"}
    for name in options.keys() - names:
        close = nearest(name, names)
        raise ValueError(
            f"the detector has no option {name!r}{f' (did you mean {close!r}?)' if close else ''}; "
            f"its options are {', '.join(sorted(names))}"
        )
    try:
        section = DetectorSection(name=detector, **options)
    except ValidationError as error:
        raise ValueError(explain_errors(error)) from error
    return settled(section)


@functools.lru_cache(maxsize=2)  # networks fill memory, and a notebook often compares two
def _load(settled_options: str) -> tuple[Detector, Resize | None, int]:
    """Load a detector, its resize function and batch size; JSON options can be cache keys."""
    options = DetectorSection.model_validate_json(settled_options)
    return load_detector(options), resize_of(options), batch_size_of(options)
