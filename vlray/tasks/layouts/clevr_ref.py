"""CLEVR-Ref+: expressions that refer to objects in rendered scenes."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Literal

from vlray.tasks.example import Boxes, Example
from vlray.tasks.layouts._boxes import corners_of, is_box
from vlray.tasks.layouts._fields import (
    FieldError,
    examples,
    id_of,
    image_namer,
    image_of,
    text_of,
)
from vlray.tasks.layouts.documents import Entry, items
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Literal["required", "optional"]] = {
    "expressions": "required",
    "scenes": "required",
}


def read(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read one example per expression; an expression refers to one or more objects.

    The boxes for all scenes are kept in memory, as compact arrays.

    Args:
        files: ``expressions``: ``{"refexps": [{"refexp", "refexp_index", "image_index",
            "image_filename", "program"}]}``, where ``_output`` in the program's last step lists the
            objects; ``scenes``: ``{"scenes": [{"image_index", "obj_bbox": {"1": [x, y, w, h]}}]}``
            with keys from 1 on.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``.

    Raises:
        ValueError: A file has the wrong format.

    Source:
        https://github.com/ccvl/clevr-refplus-dataset-gen (arXiv:1901.00850). The numbering from 1
        and the meaning of ``_output`` are taken from other readers of these files.
    """
    image_id = image_namer(options)
    scenes = _scenes(files["scenes"], problems)

    def make(entry: Entry) -> Example:
        text, number = text_of(entry, "refexp"), id_of(entry, "refexp_index")
        scene = scenes.get(int(id_of(entry, "image_index")))
        if scene is None:
            raise FieldError("no scene has its image")
        boxes = [
            corners_of(scene[4 * index : 4 * index + 4])
            # ``_output`` counts objects from 0, the keys of ``obj_bbox`` from 1.
            for index in entry["program"][-1]["_output"]
        ]
        valid = tuple(box for box in boxes if is_box(box, None, f"a box of {number}", problems))
        return Example(
            example_id=number,
            text=text,
            image_ids=(image_id(image_of(entry, "image_filename")),),
            label=Boxes(valid, spans=((0, len(text)),) * len(valid)),
        )

    for path in files["expressions"]:
        yield from examples(items(path, "refexps.item", problems), make, path, problems)


def _scenes(paths: tuple[str, ...], problems: Problems) -> dict[int, array[float]]:
    """Read each scene's boxes, keyed by image index; flat: x, y, w, h of object 1, object 2, ..."""
    scenes: dict[int, array[float]] = {}
    for path in paths:
        for number, entry in enumerate(items(path, "scenes.item", problems), 1):
            try:
                boxes = entry["obj_bbox"]
                # Compact arrays: 16 bytes per box instead of four Python floats.
                ordered = (boxes[str(index)] for index in range(1, len(boxes) + 1))
                flat = array("f", [float(value) for box in ordered for value in box])
                scenes[int(entry["image_index"])] = flat
            except (KeyError, TypeError, ValueError) as error:
                problems.add(FieldError.kind, f"scene {number}: {error!r:.60}")
    return scenes
