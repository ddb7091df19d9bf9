"""RefCOCO, RefCOCO+ and RefCOCOg: expressions that refer to one object in a COCO image."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from typing import Literal, NoReturn

from vlray.storage.pickles import ArrayUnpickler
from vlray.tasks.example import Boxes, Example
from vlray.tasks.layouts._boxes import Corners, corners_of, is_box
from vlray.tasks.layouts._fields import FieldError, examples, id_of, image_namer, image_of, text_of
from vlray.tasks.layouts.documents import Entry, items, open_bytes
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Literal["required", "optional"]] = {
    "references": "required",
    "instances": "required",
}


def read(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read one example per expression, with the box that the expression refers to.

    The unpickler accepts only containers, strings and numbers, so no code in the pickle runs.

    Args:
        files: ``references``: ``refs(unc).p`` and the like, a pickled list of ``{"ref_id",
            "ann_id", "image_id", "split", "sentences": [{"sent_id", "sent"}]}``; ``instances``:
            instances.json in COCO's format.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``, ``image_name``, and ``splits``: which of the file's splits to read,
            separated by commas.

    Raises:
        ValueError: A file has the wrong format, or the pickle contains code.

    Source:
        lichengunc/refer: README.md, data/README.md, refer.py.
    """
    image_id = image_namer(options)
    splits = options["splits"].split(",")
    boxes: dict[int, Corners] = {}
    for path in files["instances"]:
        for entry in items(path, "annotations.item", problems):
            try:
                boxes[int(entry["id"])] = corners_of(entry["bbox"])
            except (KeyError, TypeError, ValueError) as error:
                problems.add(FieldError.kind, f"annotation {entry.get('id')}: {error!r:.60}")

    def make(entry: Entry) -> Example:
        text, number = text_of(entry, "sent"), id_of(entry, "sent_id")
        # Invalid bytes were unpickled as lone surrogates. isprintable is the quick test of the two.
        if not text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise FieldError(f"sent is not UTF-8: {text!r:.40}")
        box = boxes.get(int(id_of(entry, "ann_id")))
        if box is None:
            raise FieldError(f"object {entry['ann_id']} is not in the instances")
        good = is_box(box, None, f"object {entry['ann_id']}", problems)
        return Example(
            example_id=number,
            text=text,
            image_ids=(image_id(image_of(entry, "image_id")),),
            label=Boxes((box,), spans=((0, len(text)),)) if good else Boxes(()),
            about={"ref_id": id_of(entry, "ref_id")},
        )

    for path in files["references"]:
        # Each sentence of a reference becomes an example, with the fields of the reference.
        sentences = (
            {**{key: value for key, value in reference.items() if key != "sentences"}, **sentence}
            for reference in _references(path)
            if reference.get("split") in splits
            for sentence in reference.get("sentences") or ()
        )
        yield from examples(sentences, make, path, problems)


class _Unpickler(ArrayUnpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        # References are plain containers, so the pickle need not import anything.
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name} is not allowed")


def _references(path: str) -> list[Entry]:
    """Load the pickle, which was written by Python 2.

    Raises:
        ValueError: The file is not a pickled list of references.
    """
    with open_bytes(path) as stream:
        try:
            # Python 2 writes bytes, which are UTF-8; other bytes are found in ``make``.
            references = _Unpickler(stream, encoding="utf-8", errors="surrogateescape").load()
        except Exception as error:  # a damaged pickle may raise anything
            raise ValueError(
                f"{path} is not a pickle of references: {error}; use refs(unc).p, refs(google).p "
                "or refs(umd).p"
            ) from error
    if not isinstance(references, list) or not all(isinstance(one, dict) for one in references):
        raise ValueError(
            f"{path} is not in the expected format: expected a pickled list of references"
        )
    return references
