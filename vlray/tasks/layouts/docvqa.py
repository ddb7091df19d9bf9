"""DocVQA: questions about single pages of documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from vlray.tasks.example import Answers, Example
from vlray.tasks.layouts._fields import (
    FieldError,
    about,
    answer_of,
    examples,
    id_of,
    image_namer,
    image_of,
    text_of,
)
from vlray.tasks.layouts.documents import Entry, items
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Literal["required", "optional"]] = {"questions": "required"}


def read(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read DocVQA's questions (single pages). All listed answers to a question are correct.

    ``about`` has ``document`` and ``page``, and ``question_types`` (separated by commas) if the
    file has them (``..._withQT.json``).

    Args:
        files: ``questions``: ``{"data": [{"questionId", "question", "image", "docId", "answers",
            "ucsf_document_id", "ucsf_document_page_no"}]}``; test files have no answers.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``.

    Raises:
        ValueError: The file has the wrong format.

    Source:
        https://www.docvqa.org/datasets/docvqa; eltoto1219/vltk, vltk/adapters/docvqa.py.
    """
    image_id = image_namer(options)

    def make(entry: Entry) -> Example:
        answers = entry.get("answers") or ()
        if not isinstance(answers, list | tuple):
            raise FieldError(f"answers is {answers!r:.40}, not a list")
        fields = {
            "document": str(entry.get("ucsf_document_id", "")),
            "page": str(entry.get("ucsf_document_page_no", "")),
            **about(entry, "docId"),
        }
        if types := entry.get("question_types"):
            fields["question_types"] = ",".join(types)
        return Example(
            example_id=id_of(entry, "questionId"),
            text=text_of(entry, "question"),
            image_ids=(image_id(image_of(entry, "image")),),
            label=Answers(tuple(map(answer_of, answers))) if answers else None,
            about=fields,
        )

    for path in files["questions"]:
        yield from examples(items(path, "data.item", problems), make, path, problems)
