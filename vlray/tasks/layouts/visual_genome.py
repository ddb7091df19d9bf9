"""Visual Genome: objects with attributes, and region descriptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from vlray.tasks.example import Boxes, Example
from vlray.tasks.layouts._boxes import corners_of, is_box
from vlray.tasks.layouts._fields import examples, id_of, image_of, text_of
from vlray.tasks.layouts.documents import Entry, items, short_name
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Mapping[str, Literal["required", "optional"]]] = {
    "objects": {"objects": "required"},
    "regions": {"regions": "required"},
}


def objects(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read the objects in each image, one example per image.

    Args:
        files: ``objects``: objects.json, ``[{"image_id", "objects": [{"x", "y", "w", "h",
            "names"}]}]``, or attributes.json, where the list is under ``attributes`` and an object
            may have ``attributes``. If an object has several names, the first is used.
        problems: Object in which faulty entries are counted.
        options: Not used.

    Raises:
        ValueError: The file has the wrong format.

    Source:
        https://homes.cs.washington.edu/~ranjay/visualgenome/api.html (versions 1.2 and 1.4);
        ranjaykrishna/visual_genome_python_driver, visual_genome/local.py.
    """

    def make(entry: Entry) -> Example:
        image = image_of(entry, "image_id")
        listed = entry["objects"] if "objects" in entry else entry["attributes"]
        boxes, names, attributes = [], [], []
        for thing in listed:
            box = corners_of([thing[key] for key in ("x", "y", "w", "h")])
            if is_box(box, None, f"object {thing.get('object_id')} of image {image}", problems):
                boxes.append(box)
                names.append(str((thing.get("names") or [""])[0]))
                attributes.append(tuple(str(word) for word in thing.get("attributes") or ()))
        # objects.json has no attributes: leave them empty, without an empty tuple per box.
        has_attributes = "objects" not in entry
        return Example(
            example_id=image,
            text="",
            image_ids=(image,),
            label=Boxes(
                tuple(boxes), tuple(names), attributes=tuple(attributes) if has_attributes else ()
            ),
        )

    for path in files["objects"]:
        yield from examples(items(path, "item", problems), make, path, problems)


def regions(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read region descriptions, one example per region: a phrase and a box.

    Args:
        files: ``regions``: region_descriptions.json, ``[{"id", "regions": [{"region_id",
            "image_id", "phrase", "x", "y", "width", "height"}]}]``.
        problems: Object in which faulty entries are counted.
        options: Not used.

    Raises:
        ValueError: The file has the wrong format.

    Source:
        As for `objects`.
    """

    def make(entry: Entry) -> Example:
        text, number = text_of(entry, "phrase"), id_of(entry, "region_id")
        image = image_of(entry, "image_id")
        box = corners_of([entry[key] for key in ("x", "y", "width", "height")])
        good = is_box(box, None, f"region {number} of image {image}", problems)
        label = Boxes((box,), spans=((0, len(text)),)) if good else Boxes(())
        return Example(example_id=number, text=text, image_ids=(image,), label=label)

    for path in files["regions"]:
        yield from examples(_flat(path, problems), make, path, problems)


def _flat(path: str, problems: Problems) -> Iterator[Entry]:
    for number, image in enumerate(items(path, "item", problems), 1):
        listed = image.get("regions")
        if not isinstance(listed, list):
            yield image  # cannot be converted to an example, so it is counted as a problem
            continue
        for region in listed:
            if isinstance(region, dict):
                # A region's own image_id takes precedence over the id of the entry.
                yield {"image_id": image.get("id"), **region}
            else:
                problems.add("broken-line", f"a region of entry {number} of {short_name(path)}")
