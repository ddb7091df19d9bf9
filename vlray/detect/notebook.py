"""Regions in one call, without Ray: for notebooks and small scripts."""

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
from vlray.detect.load import check_ways, load_detector, resize_of, settled
from vlray.detect.modes import info_of, regions_of
from vlray.detect.protocol import Detector, DetectorInfo, Resize
from vlray.images.decode import ImageError, as_bgr
from vlray.regions.batch import RegionBatch
from vlray.regions.user_boxes import describe_invalid_box
from vlray.settings.options import nearest
from vlray.settings.wording import explain_errors

AnyImage = str | Path | Image.Image | np.ndarray


def find_regions(
    images: AnyImage | Sequence[AnyImage],
    detector: str = "lite",
    *,
    boxes: ArrayLike | Sequence[ArrayLike] | None = None,
    **options: Any,
) -> RegionBatch:
    """Find the regions of one image or of several: those that ``vlray extract`` finds.

    They are equal bit for bit on a CPU if torch uses as many threads; the command's log says how
    many (``torch.set_num_threads``). The detector is loaded by the first call and kept for the next
    ones with the same options. The defaults are the package's own, not those of ``vlray env``.

    Args:
        images: A path, a Pillow image or an array (RGB, uint8), or a list of them.
        detector: As ``--detector.name``: ``lite``, a stored name, a Detectron2 ``config.yaml``,
            or a class of your own.
        boxes: Boxes to pool instead of the detector's own, ``x1, y1, x2, y2`` in pixels of the
            original image: an array (R, 4) for one image, a list of these for several. All of them
            come back, in their order. What ``vg-caffe`` found has its own features again; the
            boxes of other detectors were moved after pooling, so they have others.
        options: The other options of ``--detector``, by name, such as ``max_boxes=10`` or
            ``features="grid"``.

    Returns:
        The regions in the order of the images; iterate over it for one image after the other.
        ``detector_info`` tells what its ``obj_ids`` mean.

    Raises:
        ValueError: There is no image, no such detector or no such option, an image cannot be
            decoded, or a box is empty, not finite or outside its image.
        OSError: A file is missing or cannot be read.
    """
    several = [images] if isinstance(images, AnyImage) else list(images)
    if not several:
        raise ValueError("no images; give a path, a Pillow image or an array, or a list of them")
    given = None if boxes is None else _boxes(boxes, len(several), isinstance(images, AnyImage))
    section = _settle(detector, options)
    check_ways(section, boxes_given=given is not None)
    model, resize, batch_size = _load(section.model_dump_json())
    arrays, image_hw = [], np.zeros((len(several), 2), np.int32)
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(several):
        pixels = _pixels(image)
        image_hw[index] = pixels.shape[:2]
        if given is not None and (problem := describe_invalid_box(given[index], *pixels.shape[:2])):
            raise ValueError(f"image {index}: {problem}")
        arrays.append(pixels if resize is None else resize(pixels))
        groups.setdefault(arrays[index].shape, []).append(index)
    found: dict[int, RegionBatch] = {}
    for group in groups.values():  # only images of one size share a batch: nothing is padded
        for start in range(0, len(group), batch_size):
            indices = group[start : start + batch_size]
            regions = regions_of(
                model,
                section,
                [arrays[index] for index in indices],
                image_hw[indices],
                None if given is None else [given[index] for index in indices],
            )
            found.update(zip(indices, regions, strict=True))
    return RegionBatch.concat([found[index] for index in range(len(several))])


def detector_info(detector: str = "lite", **options: Any) -> DetectorInfo:
    """Tell what the ids in a detector's regions mean, and how long its vectors are.

    Args:
        detector: As for ``find_regions``, with the same options.
        options: Likewise.
    """
    section = _settle(detector, options)
    return info_of(_load(section.model_dump_json())[0], section)


def _boxes(boxes: Any, count: int, single: bool) -> list[np.ndarray]:
    """Bring the boxes that were given into one array for each image."""
    try:
        given = [
            np.asarray(one, np.float32).reshape(-1, 4) for one in ([boxes] if single else boxes)
        ]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"boxes are no arrays of x1, y1, x2, y2, one array for each image: {error}"
        ) from error
    if len(given) != count:
        raise ValueError(
            f"boxes of {len(given)} images are given for {count}; give one array for each image"
        )
    return given


def _pixels(image: AnyImage) -> np.ndarray:
    try:
        return as_bgr(image)
    except ImageError as error:
        if isinstance(image, (str, Path)):
            raise ImageError(f"{image}: {error.reason}") from error
        raise


def _settle(detector: str, options: dict[str, Any]) -> DetectorSection:
    """Check the options, and make them independent of where this runs."""
    known = DetectorSection.model_fields.keys() - {"name"}
    for name in options.keys() - known:
        close = nearest(name, known)
        raise ValueError(
            f"the detector has no option {name!r}{f'; did you mean {close!r}?' if close else ''}; "
            f"there are {', '.join(sorted(known))}"
        )
    try:
        section = DetectorSection(name=detector, **options)
    except ValidationError as error:
        raise ValueError(explain_errors(error)) from error
    return settled(section)


@functools.lru_cache(maxsize=2)  # networks fill memory; one of each of two is what is compared
def _load(settled_options: str) -> tuple[Detector, Resize | None, int]:
    """Load a detector by its options as JSON: equal texts are equal detectors."""
    options = DetectorSection.model_validate_json(settled_options)
    return load_detector(options), resize_of(options), batch_size_of(options)
