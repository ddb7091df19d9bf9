"""Reader for COCO's JSON: detection results, or instances with categories; boxes without vectors.

Shapes: M: boxes of all images together.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import ijson
import numpy as np

from vlray.formats.readers.checked import attempt, raw_regions, size
from vlray.formats.readers.protocol import Labels, RawRegions, Unreadable
from vlray.tasks.layouts.documents import items, open_bytes
from vlray.tasks.layouts.json_text import JsonText
from vlray.tasks.problems import Problems

log = logging.getLogger("vlray.formats")

_INSTANCES = "instances.json"  # of vlray's exports
_EVENTS = 100_000  # to look at before a document is given up
_BOX = 4


class CocoReader:
    """Reader for COCO's results (a list) and instances (``images``, ``annotations``, ...).

    A box is ``x, y, width, height`` in pixels. Instances have the sizes of the images and the names
    of the categories, whose ids need not be consecutive: an object id is the position of a category
    in the order of their ids. In results, it is ``category_id`` itself. The boxes, 30 bytes each,
    are kept in memory, as those of an image need not be next to each other.

    Args:
        source: The file, or a folder with ``instances.json``.

    Raises:
        ValueError: The document is not of either kind, or a box is not four numbers.

    Source:
        https://cocodataset.org/#format-data and #format-results; cocodataset/cocoapi,
        PythonAPI/pycocotools/coco.py.
    """

    name: ClassVar[str] = "coco-json"
    pickled: ClassVar[bool] = False

    def __init__(self, source: Path) -> None:
        path = _document(source)
        kind = _kind_of(path)
        if not kind:
            raise ValueError(
                f"{source} is neither a list of results nor an object with images and annotations"
            )
        self._sizes: dict[str, tuple[float, float] | None] = {}
        self.vocabulary: tuple[Labels, Labels] | None = None
        problems = Problems()
        rank: dict[object, int] | None = None
        if kind == "instances":
            for image in items(str(path), "images.item", problems):
                hw = size(image.get("height"), image.get("width"))
                self._sizes[str(image.get("id"))] = hw
            categories = sorted(items(str(path), "categories.item", problems), key=_category_id)
            rank = {category.get("id"): index for index, category in enumerate(categories)}
            self.vocabulary = tuple(str(c.get("name", "")) for c in categories), ()
        prefix = "annotations.item" if kind == "instances" else "item"
        self._collect(items(str(path), prefix, problems), rank)
        if problems.counts:
            what = ", ".join(text[0] for text in problems.examples.values())
            log.warning("%s was not read completely: %s", path, what)

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether the document begins as results or instances."""
        path = _document(source)
        return path.is_file() and bool(_kind_of(path))

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, in the order of the document."""
        for index in range(position, self.end):
            yield index + 1, attempt(self._ids[index], self._read, index)

    def _collect(
        self, entries: Iterator[Mapping[str, Any]], rank: dict[object, int] | None
    ) -> None:
        """Collect the boxes of all images, and sort them by image."""
        numbers = {image_id: number for number, image_id in enumerate(self._sizes)}
        images, labels, boxes, scores = array("q"), array("q"), array("d"), array("d")
        for entry in entries:
            box = entry.get("bbox")
            if not isinstance(box, list) or len(box) != _BOX or not all(map(_is_number, box)):
                raise ValueError(f"the bbox of a box is {box!r}, not x, y, width, height")
            images.append(numbers.setdefault(str(entry.get("image_id")), len(numbers)))
            category = entry.get("category_id")
            label = category if rank is None else rank.get(category)
            labels.append(label if isinstance(label, int) and label >= 0 else -1)
            boxes.extend(box)
            scores.append(entry.get("score", np.nan))
        order = np.argsort(np.frombuffer(images, np.int64), kind="stable")
        self._labels = np.frombuffer(labels, np.int64)[order]
        self._scores = np.frombuffer(scores, np.float64)[order]
        self._boxes = np.frombuffer(boxes, np.float64).reshape(-1, _BOX)[order]
        self._ids = list(numbers)
        counts = np.bincount(np.frombuffer(images, np.int64), minlength=len(numbers))
        self._stops = np.concatenate([[0], np.cumsum(counts)])
        self.end = len(self._ids)

    def _read(self, index: int) -> RawRegions:
        rows = slice(self._stops[index], self._stops[index + 1])
        boxes, labels, scores = self._boxes[rows], self._labels[rows], self._scores[rows]
        corners = np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
        named: dict[str, object] = {}
        if (labels >= 0).all():
            named["obj_ids"] = labels
            named["obj_probs"] = None if np.isnan(scores).any() else scores
        return raw_regions(
            self._ids[index],
            corners,
            np.zeros((len(corners), 0), np.float32),
            image_hw=self._sizes.get(self._ids[index]),
            labels=named,
            remarks=("no-features",),
        )


def _document(source: Path) -> Path:
    return source / _INSTANCES if source.is_dir() else source


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _category_id(category: Mapping[str, Any]) -> int:
    value = category.get("id")
    if type(value) is not int:
        raise ValueError(f"a category has the id {value!r}, which is not a number")
    return value


def _kind_of(path: Path) -> str:
    """Return ``results`` or ``instances``; empty if the file is neither."""
    keys: set[str] = set()
    with open_bytes(str(path)) as stream:
        if stream.peek(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"[", b"{"):
            return ""
        try:
            events = ijson.parse(JsonText(stream, str(path)))
            for (prefix, event, value), _ in zip(events, range(_EVENTS), strict=False):
                if event == "map_key" and prefix == "" and value in ("images", "annotations"):
                    return "instances"
                if event == "map_key" and prefix == "item":
                    keys.add(value)
                if (prefix, event) == ("item", "end_map"):
                    return "results" if {"image_id", "bbox"} <= keys else ""
        except (ValueError, ijson.JSONError):
            pass
    return ""
