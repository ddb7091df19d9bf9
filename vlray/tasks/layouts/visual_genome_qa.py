"""Visual Genome's questions and answers: a list of images, each with its questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from vlray.tasks.example import Answers, Example
from vlray.tasks.layouts._fields import examples, id_of, image_namer, image_of, text_of
from vlray.tasks.layouts.documents import Entry, items
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Literal["required", "optional"]] = {"questions": "required"}


def read(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read Visual Genome's ``question_answers.json``.

    ``about`` has ``question_type``: the first word of the question (what, where, when, who, why,
    how), as in Visual Genome.

    Args:
        files: ``questions``: ``[{"id", "qas": [{"qa_id", "image_id", "question", "answer",
            "a_objects", "q_objects"}]}]``.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``.

    Raises:
        ValueError: The file has the wrong format.

    Source:
        https://homes.cs.washington.edu/~ranjay/visualgenome/api.html; eltoto1219/vltk,
        vltk/adapters/vgqa.py; Visual Genome (arXiv:1602.07332), 5.6.
    """
    image_id = image_namer(options)

    def make(entry: Entry) -> Example:
        question = text_of(entry, "question")
        return Example(
            example_id=id_of(entry, "qa_id"),
            text=question,
            image_ids=(image_id(image_of(entry, "image_id")),),
            label=Answers((text_of(entry, "answer"),)),
            about={"question_type": question.partition(" ")[0].lower()},
        )

    for path in files["questions"]:
        yield from examples(_questions(items(path, "item", problems)), make, path, problems)


def _questions(images: Iterator[Entry]) -> Iterator[Entry]:
    for image in images:
        questions = image.get("qas")
        # An empty list is valid; an entry without a list is yielded to be counted as faulty.
        yield from questions if isinstance(questions, list) else [image]
