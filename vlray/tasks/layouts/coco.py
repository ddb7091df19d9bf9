"""COCO: captions, object instances, and captions for Karpathy's splits."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from vlray.tasks.example import Boxes, Example
from vlray.tasks.layouts._boxes import corners_of, is_box
from vlray.tasks.layouts._fields import examples, id_of, image_namer, image_of, text_of
from vlray.tasks.layouts.documents import Entry, items, short_name
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Mapping[str, Literal["required", "optional"]]] = {
    "captions": {"captions": "required"},
    "instances": {"instances": "required"},
    "karpathy": {"captions": "required"},
}


def captions(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read COCO's captions, one example per caption.

    Args:
        files: ``captions``: ``{"annotations": [{"id", "image_id", "caption"}], ...}``.
        problems: Object in which faulty entries are counted.
        options: ``id_rule`` and ``image_name``.

    Raises:
        ValueError: The file has the wrong format.

    Source:
        https://cocodataset.org/#format-data, and captions_val2017.json itself.
    """
    image_id = image_namer(options)

    def make(entry: Entry) -> Example:
        return Example(
            example_id=id_of(entry, "id"),
            text=text_of(entry, "caption"),
            image_ids=(image_id(image_of(entry, "image_id")),),
        )

    for path in files["captions"]:
        yield from examples(items(path, "annotations.item", problems), make, path, problems)


def karpathy(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read the captions in Karpathy's splits of COCO or Flickr30k, one example per caption.

    Args:
        files: ``captions``: ``{"images": [{"filename", "split", "sentences": [{"raw",
            "sentid"}]}]}``.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``, and ``splits``: which of the file's splits to read, separated by
            commas (``train,restval``).

    Raises:
        ValueError: The file has the wrong format.

    Source:
        dataset_coco.json and dataset_flickr30k.json from
        https://cs.stanford.edu/people/karpathy/deepimagesent/
    """
    image_id = image_namer(options)
    splits = options["splits"].split(",")

    def make(entry: Entry) -> Example:
        return Example(
            example_id=id_of(entry, "sentid"),
            text=text_of(entry, "raw"),
            image_ids=(image_id(image_of(entry, "filename")),),
        )

    for path in files["captions"]:
        sentences = (
            # The file name, which the image id is derived from, is a field of the image.
            {**sentence, "filename": image.get("filename")}
            for image in items(path, "images.item", problems)
            # An image without a split passes, so that `_sentences` turns it into a problem.
            if image.get("split", splits[0]) in splits
            for sentence in _sentences(image)
        )
        yield from examples(sentences, make, path, problems)


def _sentences(image: Entry) -> list[Entry]:
    """Return an image's captions; for an image in another form, an entry without a caption."""
    sentences = image.get("sentences")
    if "split" not in image or not isinstance(sentences, list):
        return [{}]
    return [one if isinstance(one, dict) else {} for one in sentences]


def instances(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read COCO's object instances: one example per image, including images without objects.

    Crowd boxes are left out; ``about`` has their number as ``crowd_boxes``. The annotations in the
    file are not sorted by image, so all boxes are kept in memory, about 40 bytes each.

    Args:
        files: ``instances``: ``{"images": [{"id", "height", "width"}], "annotations":
            [{"image_id", "category_id", "bbox": [x, y, width, height], "iscrowd"}],
            "categories": [{"id", "name"}]}``, in any order.
        problems: Object in which faulty entries are counted.
        options: ``id_rule`` and ``image_name``.

    Raises:
        ValueError: The file has the wrong format.

    Source:
        https://cocodataset.org/#format-data, and instances_val2017.json itself.
    """
    image_id = image_namer(options)
    for path in files["instances"]:
        names = {
            str(entry["id"]): str(entry["name"])
            # Faults are counted in the pass over the annotations, so discard them here.
            for entry in items(path, "categories.item", Problems())
            if "id" in entry and "name" in entry
        }
        annotations = _Annotations(path, problems)

        # Default arguments bind the loop variables of this iteration.
        def make(
            entry: Entry,
            annotations: _Annotations = annotations,
            names: Mapping[str, str] = names,
            path: str = path,
        ) -> Example:
            number = id_of(entry, "id")
            image_hw = int(entry["height"]), int(entry["width"])
            boxes, categories, crowds = annotations.of(int(number))
            valid = [
                index
                for index, box in enumerate(boxes)
                if is_box(box, image_hw, f"a box of image {number} in {short_name(path)}", problems)
            ]
            return Example(
                example_id=number,
                text="",
                image_ids=(image_id(number),),
                label=Boxes(
                    tuple(boxes[index] for index in valid),
                    tuple(names.get(str(categories[i]), str(categories[i])) for i in valid),
                ),
                about={"crowd_boxes": str(crowds)} if crowds else {},
            )

        yield from examples(items(path, "images.item", problems), make, path, problems)
        if without := annotations.unused():
            problems.add(
                "no-image",
                f"annotations of image {without[0]} in {short_name(path)}, which it does not list",
                len(without),
            )


class _Annotations:
    """Boxes from a file, sorted by image, in NumPy arrays."""

    def __init__(self, path: str, problems: Problems) -> None:
        # Lists of Python numbers would take several times the memory.
        images, kinds, crowds, boxes = array("q"), array("q"), array("b"), array("d")
        number = 0
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
        if number > 1 and not images:
            raise ValueError(
                f"{path} is not in the expected format: none of its {number:,} annotations has "
                "image_id, category_id and bbox; use an instances_*.json file"
            )
        # Sort by image once, so that an image's boxes are one slice.
        every = np.array(images, np.int64)
        order = np.argsort(every, kind="stable")
        self._images = every[order]
        self._kinds = np.array(kinds, np.int64)[order]
        self._crowds = np.array(crowds, bool)[order]
        self._boxes = np.array(boxes).reshape(-1, 4)[order]
        self._used = np.zeros(len(order), bool)

    def of(self, image: int) -> tuple[list[tuple[float, float, float, float]], list[int], int]:
        """Return an image's boxes, their category ids, and the number of crowd boxes left out."""
        start, end = np.searchsorted(self._images, [image, image + 1])
        self._used[start:end] = True
        plain = ~self._crowds[start:end]
        boxes = [(x1, y1, x2, y2) for x1, y1, x2, y2 in self._boxes[start:end][plain].tolist()]
        return boxes, self._kinds[start:end][plain].tolist(), int((~plain).sum())

    def unused(self) -> list[int]:
        """Return the numbers of the images whose boxes were never requested."""
        return [int(image) for image in np.unique(self._images[~self._used])]
