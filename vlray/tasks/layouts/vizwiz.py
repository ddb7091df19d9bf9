"""VizWiz: questions by blind people about their own photographs, each with ten answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from vlray.tasks.example import Answers, Example
from vlray.tasks.layouts._fields import about, answer_of, examples, image_namer, image_of, text_of
from vlray.tasks.layouts.documents import Entry, items
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Literal["required", "optional"]] = {"questions": "required"}


def read(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read VizWiz's questions.

    An example's id is the file name of its image, which also identifies predictions in
    submissions. ``about`` has ``answer_type`` and ``answerable`` (``1`` or ``0``).

    Args:
        files: ``questions``: ``[{"image", "question", "answers": [{"answer",
            "answer_confidence"}], "answer_type", "answerable"}]``; test files have no answers.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``, and optionally ``label: answerable``, to use that field as label.

    Raises:
        ValueError: The file has the wrong format.

    Source:
        https://vizwiz.org/tasks-and-datasets/vqa/; facebookresearch/mmf,
        mmf/datasets/builders/vizwiz (predictions by image).
    """
    image_id = image_namer(options)

    def make(entry: Entry) -> Example:
        image = image_of(entry, "image")
        return Example(
            example_id=image,
            text=text_of(entry, "question"),
            image_ids=(image_id(image),),
            label=_label(entry, options.get("label", "answers")),
            about=about(entry, "answer_type", "answerable"),
        )

    for path in files["questions"]:
        yield from examples(items(path, "item", problems), make, path, problems)


def _label(entry: Entry, kind: str) -> Answers | None:
    if kind == "answerable":
        return Answers((str(entry["answerable"]),)) if "answerable" in entry else None
    # Test files have no answers.
    answers = entry.get("answers") or ()
    return Answers(tuple(answer_of(one["answer"]) for one in answers)) if answers else None
