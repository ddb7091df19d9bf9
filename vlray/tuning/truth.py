"""Boxes, classes and attributes that are right, from COCO's JSON.

Shapes: N images, G boxes of all of them.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from vlray.images.ids import image_ids
from vlray.storage import files

_FORM = (
    "give COCO's JSON: images with id and file_name, annotations with image_id and bbox (x, y, "
    "width, height), and categories with id and name"
)


@dataclass(frozen=True, eq=False)
class Truth:
    """What is on N images, flat.

    Attributes:
        source: The file.
        image_ids: Ids by the images' rule; images without a box are among them.
        offsets: Where each image's boxes begin, and at the end G.
        boxes: ``(x1, y1, x2, y2)`` in pixels of the original image, as the file has them.
        ignored: Boxes of a crowd, and those that the file says to ignore: no detector has to find
            them.
        classes: Name of each box's class; empty: the file names none.
        attributes: Names of each box's attributes; empty: the file has none.
    """

    source: str
    image_ids: tuple[str, ...]
    offsets: Int64[np.ndarray, " N1"]
    boxes: Float64[np.ndarray, "G 4"]
    ignored: Bool[np.ndarray, " G"]
    classes: tuple[str, ...] = ()
    attributes: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        """Give the number of boxes."""
        return len(self.boxes)


def read_truth(path: str, id_rule: str = "stem") -> Truth:
    """Read the annotations of images.

    Beside what COCO's files have, an annotation may hold ``attributes``: a list of names.

    Args:
        path: A local path or a URI of COCO's JSON.
        id_rule: How a file's name becomes an id, as for the images.

    Raises:
        ValueError: It is none, or an annotation is damaged; says which.
        OSError: It cannot be read.
    """
    data = files.read_bytes(*files.resolve(path)).removeprefix(codecs.BOM_UTF8)
    try:
        found = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); {_FORM}") from error
    if not isinstance(found, dict) or not {"images", "annotations"} <= found.keys():
        raise ValueError(f"{path} has no images and annotations; {_FORM}")
    try:
        numbers = [image["id"] for image in found["images"]]
        names = image_ids([image["file_name"] for image in found["images"]], id_rule)
        categories = {one["id"]: str(one["name"]) for one in found.get("categories", ())}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} lacks {error} in an image or category; {_FORM}") from error
    if not names:
        raise ValueError(f"{path} names no images; {_FORM}")
    return _gather(path, found["annotations"], numbers, names, categories)


def _gather(
    path: str,
    annotations: Sequence[Any],
    numbers: Sequence[Any],
    names: Sequence[str],
    categories: dict[Any, str],
) -> Truth:
    """Bring the boxes of each image together, in the order of the file."""
    place = {number: at for at, number in enumerate(numbers)}
    images = np.zeros(len(annotations), np.int64)
    boxes = np.zeros((len(annotations), 4))
    ignored = np.zeros(len(annotations), bool)
    for row, one in enumerate(annotations):
        try:
            images[row] = place[one["image_id"]]
            x, y, width, height = map(float, one["bbox"])
            if categories:
                categories[one["category_id"]]
        except (KeyError, TypeError, ValueError) as error:
            shown = (
                {name: one.get(name) for name in ("id", "image_id", "category_id", "bbox")}
                if (isinstance(one, dict))
                else one
            )
            raise ValueError(
                f"{path}: annotation {row}, {json.dumps(shown)}, has no box or class of one of its "
                f"images ({error!r}); {_FORM}"
            ) from error
        boxes[row] = x, y, x + width, y + height
        ignored[row] = bool(one.get("iscrowd") or one.get("ignore"))
    if not np.isfinite(boxes).all():
        row = int((~np.isfinite(boxes)).any(axis=1).argmax())
        raise ValueError(f"{path}: annotation {row} has a box that is not finite; {_FORM}")
    order = np.argsort(images, kind="stable")
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


def _attributes(path: str, row: int, annotation: dict[str, Any]) -> tuple[str, ...]:
    names = annotation.get("attributes") or []
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return tuple(names)
    raise ValueError(f"{path}: attributes of annotation {row} are {names!r}; give a list of names")
