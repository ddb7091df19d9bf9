"""GQA's questions: one or more JSON documents with entries keyed by question id."""

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
from vlray.tasks.layouts.documents import Entry, entries
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Literal["required", "optional"]] = {"questions": "required"}

NO_STEPS = ("exist", "query: name", "choose name")
"""Operations that the official evaluation does not count as reasoning steps."""


def read(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read GQA's questions. The test, challenge and submission files have no answers.

    ``about`` has the fields that the official evaluation needs: the ``structural``, ``semantic``
    and ``detailed`` type, ``group`` (``groups.global``), ``balanced``, ``steps`` (number of
    reasoning steps), ``entailed`` (ids of entailed questions, separated by spaces) and
    ``full_answer``.

    Args:
        files: ``questions``: ``{"question id": {"imageId", "question", "answer", "fullAnswer",
            "isBalanced", "types", "groups", "semantic", "entailed", ...}}``.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``. Ids of test images keep the prefix ``n`` (``n161313``).

    Raises:
        ValueError: A file has the wrong format.

    Source:
        https://cs.stanford.edu/people/dorarad/gqa/download.html; the dataset's eval.py
        (``getStepsNum``, ``updateConsistency``); airsplay/lxmert, data/gqa.
    """
    image_id = image_namer(options)

    def make(entry: Entry) -> Example:
        answer = entry.get("answer")
        return Example(
            example_id=id_of(entry, "question id"),
            text=text_of(entry, "question"),
            image_ids=(image_id(image_of(entry, "imageId")),),
            label=None if answer is None else Answers((answer_of(answer),)),
            about=_about(entry),
        )

    for path in files["questions"]:
        # The id is the entry's key. No field of GQA has a name with a space.
        questions = ({**entry, "question id": key} for key, entry in entries(path, "", problems))
        yield from examples(questions, make, path, problems)


def _about(entry: Entry) -> dict[str, str]:
    fields = about(entry.get("types") or {}, "structural", "semantic", "detailed")
    if group := (entry.get("groups") or {}).get("global"):
        fields["group"] = str(group)
    # Without this field, the metrics take a question as balanced.
    if "isBalanced" in entry:
        fields["balanced"] = "true" if entry["isBalanced"] else "false"
    if entailed := entry.get("entailed"):
        fields["entailed"] = " ".join(map(str, entailed))
    if steps := entry.get("semantic"):
        operations = [f"{step.get('operation')}: {step.get('argument')}" for step in steps]
        # As in getStepsNum of the official script, which searches for these words.
        counted = [text for text in operations if not any(word in text for word in NO_STEPS)]
        fields["steps"] = str(len(counted))
    if answer := entry.get("fullAnswer"):
        fields["full_answer"] = str(answer)
    return fields
