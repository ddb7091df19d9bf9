"""Ground-truth boxes, classes and attributes, read from COCO's JSON format.

Shapes: N: images; N1: N + 1; G: boxes in all images.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from vlray.images.ids import image_ids
from vlray.storage import files

_FORM = (
    "pass COCO's JSON: images with id and file_name, annotations with image_id and bbox (x, y, "
    "width, height), and categories with id and name"
)


@dataclass(frozen=True, eq=False)
class Truth:
    """Ground-truth boxes of N images, concatenated.

    Attributes:
        source: Path of the file.
        image_ids: Ids of the images, including images without boxes; ``images.id_rule`` makes them
            from the file names.
        offsets: Index of each image's first box, followed by G.
        boxes: ``(x1, y1, x2, y2)`` in pixels of the original image.
        ignored: Whether each box is ignored, because it is a crowd or is marked ``ignore``.
        classes: Class name of each box; empty if the file has no categories.
        attributes: Attribute names of each box; empty if the file has no attributes.
    """

    source: str
    image_ids: tuple[str, ...]
    offsets: Int64[np.ndarray, " N1"]
    boxes: Float64[np.ndarray, "G 4"]
    ignored: Bool[np.ndarray, " G"]
    classes: tuple[str, ...] = ()
    attributes: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        """Return the total number of boxes."""
        return len(self.boxes)


def read_truth(path: str, id_rule: str = "stem") -> Truth:
    """Read annotations in COCO's format.

    In addition to COCO's keys, an annotation may have ``attributes``, a list of names.

    Args:
        path: Local path or URI of the JSON file.
        id_rule: Rule that derives the image id from the file name, as in ``images.id_rule``.

    Raises:
        ValueError: The file is not in COCO's format, or an annotation is invalid.
        OSError: The file cannot be read.
    """
    # Some editors save JSON with a byte order mark, which json.loads() refuses.
    data = files.read_bytes(*files.resolve(path)).removeprefix(codecs.BOM_UTF8)
    try:
        coco = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); {_FORM}") from error
    if not isinstance(coco, dict) or not {"images", "annotations"} <= coco.keys():
        raise ValueError(f"{path} has no images and annotations; {_FORM}")
    try:
        numbers = [image["id"] for image in coco["images"]]
        names = image_ids([image["file_name"] for image in coco["images"]], id_rule)
        categories = {one["id"]: str(one["name"]) for one in coco.get("categories", ())}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} lacks {error} in an image or category; {_FORM}") from error
    if not names:
        raise ValueError(f"{path} has an empty list of images; {_FORM}")
    return _gather(path, coco["annotations"], numbers, names, categories)


def _gather(
    path: str,
    annotations: Sequence[Any],
    numbers: Sequence[object],
    names: Sequence[str],
    categories: dict[object, str],
) -> Truth:
    """Group the boxes by image; within an image, boxes keep their order in the file.

    Raises:
        ValueError: An annotation is invalid.
    """
    index_of = {number: index for index, number in enumerate(numbers)}
    images = np.zeros(len(annotations), np.int64)
    boxes = np.zeros((len(annotations), 4))
    ignored = np.zeros(len(annotations), bool)
    for row, one in enumerate(annotations):
        try:
            images[row] = index_of[one["image_id"]]
            x, y, width, height = map(float, one["bbox"])
            if categories:
                categories[one["category_id"]]  # raises KeyError for an unknown category
        except (KeyError, TypeError, ValueError) as error:
            # Show only these keys: a segmentation may have thousands of numbers.
            excerpt = (
                {name: one.get(name) for name in ("id", "image_id", "category_id", "bbox")}
                if (isinstance(one, dict))
                else one
            )
            raise ValueError(
                f"{path}: annotation {row}, {json.dumps(excerpt)}, needs an image_id and a "
                f"category_id of this file and a bbox of four numbers ({error!r}); {_FORM}"
            ) from error
        boxes[row] = x, y, x + width, y + height
        ignored[row] = bool(one.get("iscrowd") or one.get("ignore"))
    if not np.isfinite(boxes).all():
        row = int((~np.isfinite(boxes)).any(axis=1).argmax())
        raise ValueError(f"{path}: annotation {row} has a box that is not finite; {_FORM}")
    # A stable sort keeps the boxes of an image in the order of the file.
    order = np.argsort(images, kind="stable")
    # minlength also counts the images at the end that have no boxes.
    counts = np.bincount(images, minlength=len(names))
    rows = order.tolist()
    with_attributes = any("attributes" in one for one in annotations)
    return Truth(
        source=path,
        image_ids=tuple(names),
        offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        boxes=boxes[order],
        ignored=ignored[order],
        classes=tuple(categories[annotations[row]["category_id"]] for row in rows)
        if categories
        else (),
        attributes=tuple(_attributes(path, row, annotations[row]) for row in rows)
        if with_attributes
        else (),
    )


def _attributes(path: str, row: int, annotation: Mapping[str, object]) -> tuple[str, ...]:
    names = annotation.get("attributes") or []
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(names)
    raise ValueError(f"{path}: attributes of annotation {row} are {names!r}; pass a list of names")
