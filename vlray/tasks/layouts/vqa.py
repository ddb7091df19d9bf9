"""VQA's format: a document with questions, and a document with ten answers per question."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import zip_longest
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
from vlray.tasks.layouts.documents import Entry, items, short_name
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Literal["required", "optional"]] = {
    "questions": "required",
    "annotations": "optional",
}


def read(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read VQA's questions, joined with their annotations if there is an annotation file.

    Both files are read in parallel. An entry waits in memory until its partner in the other file
    is reached, so files in the same order, like the official ones, need little memory.

    Args:
        files: ``questions``: ``{"questions": [{"image_id", "question", "question_id"}]}``.
            ``annotations``: ``{"annotations": [{"question_id", "image_id", "question_type",
            "answer_type", "multiple_choice_answer", "answers": [{"answer",
            "answer_confidence", "answer_id"}]}]}``; test splits have none.
        problems: Object in which faulty entries are counted, and questions and annotations
            without a partner, which are left out.
        options: ``id_rule``, and ``image_name``: pattern that turns an image number into a file
            name, such as ``COCO_val2014_{:012d}.jpg``.

    Raises:
        ValueError: A file has the wrong format.

    Source:
        https://visualqa.org/download.html (formats); GT-Vision-Lab/VQA,
        PythonHelperTools/vqaTools/vqa.py. OK-VQA has the same format, with other values of
        ``question_type``.
    """
    [path] = files["questions"]
    image_id = image_namer(options)
    questions = items(path, "questions.item", problems)
    if not files.get("annotations"):
        yield from examples(questions, partial(_example, image_id=image_id), path, problems)
        return
    [annotations] = files["annotations"]
    answers = items(annotations, "annotations.item", problems)
    names = (short_name(path), short_name(annotations))
    pairs = _joined(questions, answers, problems, names)
    yield from examples(pairs, partial(_example, image_id=image_id), path, problems)


def _example(entry: Entry, image_id: Callable[[str], str]) -> Example:
    """Convert a question, which may have its annotation under ``annotation``, to an example."""
    annotation = entry.get("annotation", {})
    answers = annotation.get("answers") or ()
    return Example(
        example_id=id_of(entry, "question_id"),
        text=text_of(entry, "question"),
        image_ids=(image_id(image_of(entry, "image_id")),),
        label=Answers(tuple(answer_of(one["answer"]) for one in answers)) if answers else None,
        about=about(annotation, "question_type", "answer_type", "multiple_choice_answer"),
    )


def _joined(
    questions: Iterator[Entry],
    annotations: Iterator[Entry],
    problems: Problems,
    names: tuple[str, str],
) -> Iterator[Entry]:
    """Yield each question with its annotation as soon as both have been read.

    Args:
        questions: Entries with a ``question_id``.
        annotations: Entries with a ``question_id``.
        problems: Object in which entries without a partner, without an id or with a duplicate id
            are counted.
        names: Names of the two files, for messages.
    """
    # Per file: the entries whose partner in the other file has not been read yet.
    waiting: tuple[dict[str, Entry], dict[str, Entry]] = ({}, {})
    # The rest of the longer file may still have partners among the waiting entries.
    for pair in zip_longest(questions, annotations):
        for side, entry in enumerate(pair):
            if entry is None:
                continue
            try:
                key = id_of(entry, "question_id")  # may be a number in only one of the files
            except FieldError as error:
                problems.add("incomplete", f"{error} in {names[side]}")
                continue
            other = waiting[1 - side].pop(key, None)
            if other is not None:
                question, annotation = (other, entry) if side else (entry, other)
                yield {**question, "annotation": annotation}
            elif key in waiting[side]:
                problems.add("duplicate-id", f"question_id {key} twice in {names[side]}")
            else:
                waiting[side][key] = entry
    # Both files have ended: the remaining entries have no partner.
    for side, kind in enumerate(("no-annotation", "no-question")):
        for key in waiting[side]:
            problems.add(kind, f"question_id {key} of {names[side]}")
