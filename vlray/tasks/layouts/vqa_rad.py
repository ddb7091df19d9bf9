"""VQA-RAD: questions by clinicians about radiographs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from vlray.tasks.example import Answers, Example
from vlray.tasks.layouts._fields import about, examples, id_of, image_namer, image_of, text_of
from vlray.tasks.layouts.documents import Entry, items
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Literal["required", "optional"]] = {"questions": "required"}


def read(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read VQA-RAD in the format that has one file per split (train and test).

    ``about`` has ``answer_type`` (OPEN, CLOSED), ``question_type`` (PRES, ABN, ..., spelled as in
    the file), ``organ`` and ``phrase_type``.

    Args:
        files: ``questions``: ``[{"qid", "image_name", "image_organ", "question",
            "question_type", "phrase_type", "answer", "answer_type"}]``; some answers are numbers.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``.

    Raises:
        ValueError: The file has the wrong format.

    Source:
        trainset.json and testset.json themselves (3,064 and 451 questions, as in the split of
        Nguyen et al., arXiv:1909.11867); Lau et al. 2018, doi:10.1038/sdata.2018.251.
    """
    image_id = image_namer(options)

    def make(entry: Entry) -> Example:
        fields = about(entry, "answer_type", "question_type", "phrase_type")
        if organ := entry.get("image_organ"):
            fields["organ"] = str(organ)
        return Example(
            example_id=id_of(entry, "qid"),
            text=text_of(entry, "question"),
            image_ids=(image_id(image_of(entry, "image_name")),),
            # Not text_of: some answers are numbers.
            label=Answers((id_of(entry, "answer"),)),
            about=fields,
        )

    for path in files["questions"]:
        yield from examples(items(path, "item", problems), make, path, problems)
