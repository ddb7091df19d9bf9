"""CLEVR: generated questions about generated scenes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from vlray.tasks.example import Answers, Example
from vlray.tasks.layouts._fields import (
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
    """Read CLEVR's questions.

    ``about`` has ``question_family_index`` and ``question_type``: the last function in the
    question's program (``count``, ``exist``, ``query_color``, ...), for results by type.

    Args:
        files: ``questions``: ``{"questions": [{"question_index", "image_filename", "question",
            "answer", "program", "question_family_index"}]}``; ``test`` has no answers or programs.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``.

    Raises:
        ValueError: The file has the wrong format.

    Source:
        https://cs.stanford.edu/people/jcjohns/clevr/; facebookresearch/clevr-dataset-gen,
        question_generation/README.md; facebookresearch/mmf, mmf/datasets/builders/clevr.
    """
    image_id = image_namer(options)

    def make(entry: Entry) -> Example:
        fields = about(entry, "question_family_index")
        if program := entry.get("program"):
            last = program[-1]
            # CLEVR v1.0 has ``function``; files from the public generator have ``type``.
            fields["question_type"] = str(last.get("function", last.get("type", "")))
        answer = entry.get("answer")
        return Example(
            example_id=id_of(entry, "question_index"),
            text=text_of(entry, "question"),
            image_ids=(image_id(image_of(entry, "image_filename")),),
            label=None if answer is None else Answers((answer_of(answer),)),
            about=fields,
        )

    for path in files["questions"]:
        yield from examples(items(path, "questions.item", problems), make, path, problems)
