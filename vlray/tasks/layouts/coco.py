"""COCO: captions and object instances of an image, and the captions by Karpathy's splits."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from vlray.tasks.example import Boxes, Example
from vlray.tasks.layouts._boxes import corners_of, is_box
from vlray.tasks.layouts._fields import examples, id_of, image_namer, image_of, text_of
from vlray.tasks.layouts.documents import items, short_name
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Mapping[str, Literal["required", "optional"]]] = {
    "captions": {"captions": "required"},
    "instances": {"instances": "required"},
    "karpathy": {"captions": "required"},
}


def captions(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read COCO's captions, each an example.

    Args:
        files: ``captions``: ``{"annotations": [{"id", "image_id", "caption"}], ...}``.
        problems: Gets what is wrong.
        options: ``id_rule`` and ``image_name``.

    Raises:
        ValueError: The file is of another form.

    Source:
        https://cocodataset.org/#format-data, and captions_val2017.json itself.
    """
    image_id = image_namer(options)

    def make(entry: Mapping[str, Any]) -> Example:
        return Example(
            example_id=id_of(entry, "id"),
            text=text_of(entry, "caption"),
            image_ids=(image_id(image_of(entry, "image_id")),),
        )

    for path in files["captions"]:
        yield from examples(items(path, "annotations.item", problems), make, path, problems)


def karpathy(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read the captions of Karpathy's splits of COCO or Flickr30k, each an example.

    Args:
        files: ``captions``: ``{"images": [{"filename", "split", "sentences": [{"raw",
            "sentid"}]}]}``.
        problems: Gets what is wrong.
        options: ``id_rule``, and ``splits``: those of the file's own that are read, with commas
            (``train,restval``).

    Raises:
        ValueError: The file is of another form.

    Source:
        dataset_coco.json and dataset_flickr30k.json of
        https://cs.stanford.edu/people/karpathy/deepimagesent/
    """
    image_id = image_namer(options)
    wanted = options["splits"].split(",")

    def make(entry: Mapping[str, Any]) -> Example:
        return Example(
            example_id=id_of(entry, "sentid"),
            text=text_of(entry, "raw"),
            image_ids=(image_id(image_of(entry, "filename")),),
        )

    for path in files["captions"]:
        sentences = (
            {**sentence, "filename": image.get("filename")}
            for image in items(path, "images.item", problems)
            if image.get("split") in wanted
            for sentence in image.get("sentences") or ()
        )
        yield from examples(sentences, make, path, problems)


def instances(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read COCO's object instances: an example of each image, those without objects too.

    The boxes of crowds are not among an image's boxes; ``about`` has their number as
    ``crowd_boxes``. Memory holds the file's boxes as numbers (about 40 bytes each), for its
    annotations are in no order of images.

    Args:
        files: ``instances``: ``{"images": [{"id", "height", "width"}], "annotations":
            [{"image_id", "category_id", "bbox": [x, y, width, height], "iscrowd"}],
            "categories": [{"id", "name"}]}``, in any order.
        problems: Gets what is wrong.
        options: ``id_rule`` and ``image_name``.

    Raises:
        ValueError: The file is of another form.

    Source:
        https://cocodataset.org/#format-data, and instances_val2017.json itself.
    """
    image_id = image_namer(options)
    for path in files["instances"]:
        names = {
            entry["id"]: str(entry["name"])
            for entry in items(path, "categories.item", Problems())
            if "id" in entry and "name" in entry
        }
        found = _Annotations(path, problems)

        def make(
            entry: Mapping[str, Any],
            found: _Annotations = found,
            names: Mapping[int, str] = names,
            path: str = path,
        ) -> Example:
            number = id_of(entry, "id")
            image_hw = int(entry["height"]), int(entry["width"])
            boxes, kinds, crowds = found.of(int(number))
            kept = [
                place
                for place, box in enumerate(boxes)
                if is_box(box, image_hw, f"a box of image {number} in {short_name(path)}", problems)
            ]
            return Example(
                example_id=number,
                text="",
                image_ids=(image_id(number),),
                label=Boxes(
                    tuple(boxes[place] for place in kept),
                    tuple(names.get(kinds[place], str(kinds[place])) for place in kept),
                ),
                about={"crowd_boxes": str(crowds)} if crowds else {},
            )

        yield from examples(items(path, "images.item", problems), make, path, problems)
        if without := found.unused():
            problems.add(
                "no-image",
                f"annotations of image {without[0]} in {short_name(path)}, which it does not list",
                len(without),
            )


class _Annotations:
    """The boxes of a file by image, as plain numbers."""

    def __init__(self, path: str, problems: Problems) -> None:
        images, kinds, crowds, boxes = array("q"), array("q"), array("b"), array("d")
        for number, entry in enumerate(items(path, "annotations.item", problems), 1):
            try:
                box = corners_of(entry["bbox"])
                image, kind = int(entry["image_id"]), int(entry["category_id"])
            except (KeyError, TypeError, ValueError) as error:
                problems.add(
                    "incomplete", f"annotation {number} of {short_name(path)}: {error!r:.60}"
                )
                continue
            images.append(image)
            kinds.append(kind)
            crowds.append(bool(entry.get("iscrowd")))
            boxes.extend(box)
        every = np.array(images, np.int64)
        order = np.argsort(every, kind="stable")
        self._images = every[order]
        self._kinds = np.array(kinds, np.int64)[order]
        self._crowds = np.array(crowds, bool)[order]
        self._boxes = np.array(boxes).reshape(-1, 4)[order]
        self._used = np.zeros(len(order), bool)

    def of(self, image: int) -> tuple[list[tuple[float, float, float, float]], list[int], int]:
        """Give an image's boxes, their categories, and how many more are crowds."""
        start, end = np.searchsorted(self._images, [image, image + 1])
        self._used[start:end] = True
        plain = ~self._crowds[start:end]
        boxes = [(x1, y1, x2, y2) for x1, y1, x2, y2 in self._boxes[start:end][plain].tolist()]
        return boxes, self._kinds[start:end][plain].tolist(), int((~plain).sum())

    def unused(self) -> list[int]:
        """Give the images of boxes that nobody asked for."""
        return [int(image) for image in np.unique(self._images[~self._used])]
