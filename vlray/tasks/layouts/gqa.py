"""GQA's questions: one document, or several, of entries by their id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from vlray.tasks.example import Answers, Example
from vlray.tasks.layouts._fields import about, examples, id_of, image_namer, image_of, text_of
from vlray.tasks.layouts.documents import entries
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Literal["required", "optional"]] = {"questions": "required"}

NO_STEPS = ("exist", "query: name", "choose name")
"""Operations that the official evaluation does not count as steps of reasoning."""


def read(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read GQA's questions; without answers in the test, challenge and submission files.

    ``about`` has what the official evaluation wants: ``structural``, ``semantic`` and ``detailed``
    type, ``group`` (``groups.global``), ``balanced``, ``steps`` (of reasoning), ``entailed`` (ids
    of the questions that follow, with blanks between them) and ``full_answer``.

    Args:
        files: ``questions``: ``{"question id": {"imageId", "question", "answer", "fullAnswer",
            "isBalanced", "types", "groups", "semantic", "entailed", ...}}``; ``train_all`` is ten.
        problems: Gets what is wrong.
        options: ``id_rule``; ids keep their ``n`` (``n161313``), which test images begin with.

    Raises:
        ValueError: A file is of another form.

    Source:
        https://cs.stanford.edu/people/dorarad/gqa/download.html; eval.py of the dataset (its
        ``getStepsNum``, ``updateConsistency``); airsplay/lxmert, data/gqa.
    """
    image_id = image_namer(options)

    def make(entry: Mapping[str, Any]) -> Example:
        answer = entry.get("answer")
        return Example(
            example_id=id_of(entry, "question id"),
            text=text_of(entry, "question"),
            image_ids=(image_id(image_of(entry, "imageId")),),
            label=None if answer is None else Answers((str(answer),)),
            about=_about(entry),
        )

    for path in files["questions"]:
        found = ({**entry, "question id": key} for key, entry in entries(path, "", problems))
        yield from examples(found, make, path, problems)


def _about(entry: Mapping[str, Any]) -> dict[str, str]:
    found = about(entry.get("types") or {}, "structural", "semantic", "detailed")
    if group := (entry.get("groups") or {}).get("global"):
        found["group"] = str(group)
    if "isBalanced" in entry:
        found["balanced"] = "true" if entry["isBalanced"] else "false"
    if entailed := entry.get("entailed"):
        found["entailed"] = " ".join(map(str, entailed))
    if steps := entry.get("semantic"):
        said = [f"{step.get('operation')}: {step.get('argument')}" for step in steps]
        found["steps"] = str(sum(not any(word in step for word in NO_STEPS) for step in said))
    if answer := entry.get("fullAnswer"):
        found["full_answer"] = str(answer)
    return found
