"""FUNSD: scanned forms with labelled words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from vlray.storage import files as storage
from vlray.tasks.example import Boxes, Example
from vlray.tasks.layouts._boxes import is_box
from vlray.tasks.layouts._fields import FieldError
from vlray.tasks.layouts.documents import items, short_name
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Literal["required", "optional"]] = {"forms": "required"}


def read(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read the forms, one example per form, with the words as text and a box per word.

    The words are joined by spaces. Each word has a box, a span, and the label of its entity
    (``question``, ``answer``, ``header``, ``other``) as its name. ``about`` has the pairs of
    linked entities (``0-3 4-7``) under ``linking``, and the entity id of each word under
    ``entities``.

    Args:
        files: ``forms``: a folder of ``ID.json`` files, ``{"form": [{"id", "label", "linking",
            "words": [{"text", "box": [x1, y1, x2, y2]}]}]}``.
        problems: Object in which faulty entries are counted.
        options: Not used.

    Raises:
        ValueError: A file has the wrong format.

    Source:
        https://guillaumejaume.github.io/FUNSD/description/ (arXiv:1905.13538).
    """
    for folder in files["forms"]:
        fs, root = storage.resolve(folder)
        for name in sorted(storage.list_names(fs, root)):
            if name.endswith(".json"):
                path = storage.join(folder, name)
                page = _form(path, name.removesuffix(".json"), problems)
                if page.text:
                    yield page
                else:
                    problems.add(FieldError.kind, f"{short_name(path)} has no words")


def _form(path: str, page: str, problems: Problems) -> Example:
    text, boxes, names, spans = "", [], [], []
    entities: list[str] = []
    linking: dict[str, None] = {}
    for entity in items(path, "form.item", problems):
        try:
            words = [
                (str(word["text"]), tuple(map(float, word["box"]))) for word in entity["words"]
            ]
            label = str(entity["label"])
            links = [f"{first}-{second}" for first, second in entity.get("linking") or ()]
        except (KeyError, TypeError, ValueError) as error:
            problems.add(
                FieldError.kind, f"entity {entity.get('id')} of {short_name(path)}: {error!r:.60}"
            )
            continue
        # The files list a link at both of its entities; the dict keeps one.
        linking |= dict.fromkeys(links)
        for word, box in words:
            x1, y1, x2, y2 = box
            if not word.strip():
                continue  # some boxes in the files have no text
            if not is_box((x1, y1, x2, y2), None, f"{word!r} in {short_name(path)}", problems):
                continue
            text += " " * bool(text)  # a space between words, none before the first
            spans.append((len(text), len(text) + len(word)))
            text += word
            boxes.append((x1, y1, x2, y2))
            names.append(label)
            entities.append(str(entity.get("id")))
    about = {"entities": " ".join(entities), "linking": " ".join(linking)}
    return Example(page, text, (page,), Boxes(tuple(boxes), tuple(names), tuple(spans)), about)
