"""VCR: multiple choice among four answers, or among four reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from vlray.tasks.example import Choices, Example
from vlray.tasks.layouts._fields import (
    FieldError,
    about,
    examples,
    image_namer,
    image_of,
    text_of,
)
from vlray.tasks.layouts.documents import Entry, json_lines
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

_Roles = Mapping[str, Literal["required", "optional"]]
ROLES: Mapping[str, _Roles] = {
    "answers": {"examples": "required"},
    "reasons": {"examples": "required"},
}

Tokens = Sequence[str | Sequence[int]]
"""Tokens: each is a word, or a reference to objects as a list of their indices in the image."""


def answers(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read VCR's questions with their four answers (Q -> A).

    Objects in the text are named by class and by number in the image, from 1: ``Why is person1
    pointing at person3 ?``. ``about`` has the class of each object under ``objects`` (separated
    by commas), and the name of the file with the objects' boxes under ``metadata``.

    Args:
        files: ``examples``: on each line ``{"annot_id", "img_fn", "metadata_fn", "objects",
            "question", "answer_choices", "answer_label", "rationale_choices",
            "rationale_label"}``; ``test`` has no labels.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``.

    Raises:
        ValueError: The file has the wrong format.

    Source:
        README in the annotations (vcr1annots.zip, https://visualcommonsense.com/download);
        e-bug/volta, volta/datasets/vcr_dataset.py.
    """
    yield from _read(files, problems, options, "answer")


def reasons(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read VCR's questions with the correct answer and four reasons (QA -> R).

    The text is the question, a space and the correct answer; everything else is as in `answers`.
    Entries of ``test`` have no correct answer and are counted as incomplete.
    """
    yield from _read(files, problems, options, "rationale")


def _read(
    files: Files, problems: Problems, options: Mapping[str, str], asked: str
) -> Iterator[Example]:
    image_id = image_namer(options)

    def make(entry: Entry) -> Example:
        objects = entry.get("objects") or ()
        text = _words(entry.get("question"), objects)
        if asked == "rationale":
            right = entry.get("answer_label")
            # Entries of ``test`` have no labels.
            if right is None:
                raise FieldError("no answer_label, which the text of QA -> R needs")
            text += " " + _words(entry["answer_choices"][right], objects)
        choices = entry.get(f"{asked}_choices") or ()
        if not choices:
            raise FieldError(f"no {asked}_choices")
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
    """Join tokens into a text, replacing object indices by names.

    Raises:
        FieldError: There are no tokens, or the image has no such object.
    """
    if not tokens:
        raise FieldError("no question")
    if isinstance(tokens, str):  # iterating it would make every letter a word
        raise FieldError(f"{tokens!r:.40} is a text, not a list of tokens")
    words = []
    for token in tokens:
        if isinstance(token, str):
            words.append(token)
            continue
        if not all(0 <= index < len(objects) for index in token):
            raise FieldError(f"object {token} is out of range: there are {len(objects)} objects")
        words.append(" and ".join(f"{objects[index]}{index + 1}" for index in token))
    return " ".join(words)
