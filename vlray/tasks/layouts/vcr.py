"""VCR: which of four answers is right, and which of four reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from vlray.tasks.example import Choices, Example
from vlray.tasks.layouts._fields import (
    LackError,
    about,
    examples,
    image_namer,
    image_of,
    text_of,
)
from vlray.tasks.layouts.documents import json_lines
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

_Roles = Mapping[str, Literal["required", "optional"]]
ROLES: Mapping[str, _Roles] = {
    "answers": {"examples": "required"},
    "reasons": {"examples": "required"},
}

Tokens = Sequence[str | Sequence[int]]
"""Words, and lists of indices into the image's objects where these are spoken of."""


def answers(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read VCR's questions with their four answers (Q -> A).

    Objects that the text speaks of are named by their class and their number in the image, from
    1: ``Why is person1 pointing at person3 ?``. ``about`` has the class of each object under
    ``objects`` (with commas), and ``metadata``: the file beside the image that has their boxes.

    Args:
        files: ``examples``: on each line ``{"annot_id", "img_fn", "metadata_fn", "objects",
            "question", "answer_choices", "answer_label", "rationale_choices",
            "rationale_label"}``; the labels are left out in ``test``.
        problems: Gets what is wrong.
        options: ``id_rule``.

    Raises:
        ValueError: The file is of another form.

    Source:
        README of the annotations (vcr1annots.zip, https://visualcommonsense.com/download);
        e-bug/volta, volta/datasets/vcr_dataset.py.
    """
    yield from _read(files, problems, options, "answer")


def reasons(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read VCR's questions, each with its right answer, and their four reasons (QA -> R).

    The text is the question, a blank and the right answer. Otherwise as `answers`; ``test`` has no
    right answer, so that its entries are counted as incomplete.
    """
    yield from _read(files, problems, options, "rationale")


def _read(
    files: Files, problems: Problems, options: Mapping[str, str], asked: str
) -> Iterator[Example]:
    image_id = image_namer(options)

    def make(entry: Mapping[str, Any]) -> Example:
        objects = entry.get("objects") or ()
        text = _words(entry.get("question"), objects)
        if asked == "rationale":
            right = entry.get("answer_label")
            if right is None:
                raise LackError("no answer_label, which the reason is asked for")
            text += " " + _words(entry["answer_choices"][right], objects)
        choices = entry.get(f"{asked}_choices") or ()
        if not choices:
            raise LackError(f"no {asked}_choices")
        return Example(
            example_id=text_of(entry, "annot_id"),
            text=text,
            image_ids=(image_id(image_of(entry, "img_fn")),),
            label=Choices(
                tuple(_words(choice, objects) for choice in choices),
                int(entry.get(f"{asked}_label", -1)),
            ),
            about={
                "objects": ",".join(objects),
                "metadata": str(entry.get("metadata_fn", "")),
                **about(entry, "movie"),
            },
        )

    for path in files["examples"]:
        yield from examples(json_lines(path, problems), make, path, problems)


def _words(tokens: Tokens | None, objects: Sequence[str]) -> str:
    """Write tokens as a text, objects by their names.

    Raises:
        LackError: There are none, or they speak of an object that the image does not have.
    """
    if not tokens:
        raise LackError("no question")
    words = []
    for token in tokens:
        if isinstance(token, str):
            words.append(token)
            continue
        if not all(0 <= index < len(objects) for index in token):
            raise LackError(f"object {token} of {len(objects)}")
        words.append(" and ".join(f"{objects[index]}{index + 1}" for index in token))
    return " ".join(words)
