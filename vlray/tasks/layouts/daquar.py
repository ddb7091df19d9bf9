"""DAQUAR: a text file with alternating questions and answers; each question names its image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal

from vlray.tasks.example import Answers, Example
from vlray.tasks.layouts._fields import FieldError, image_namer
from vlray.tasks.layouts.documents import lines, short_name
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Files

ROLES: Mapping[str, Literal["required", "optional"]] = {"questions": "required"}

_IMAGE = re.compile(r"\bimage ?(\d+)\b")
# The preposition and the article before the name are removed with it.
_MENTION = re.compile(r"\s*\b(?:(?:in|on|of)\s+)?(?:(?:the|this)\s+)?image ?\d+\b")


def read(files: Files, problems: Problems, options: Mapping[str, str]) -> Iterator[Example]:
    """Read DAQUAR's questions, and remove the image name from the text of each question.

    ``what is behind the table in the image12 ?`` becomes ``what is behind the table ?`` with the
    image ``image12``. An answer with several objects (``table, lamp``) stays one answer. The files
    have no ids, so an example's id is the number of its question in the file, from 1.

    A question without an answer (the next line also names an image) is counted as a problem.

    Args:
        files: ``questions``: alternating lines of questions and answers.
        problems: Object in which faulty entries are counted.
        options: ``id_rule``.

    Raises:
        ValueError: No question in the file names an image.

    Source:
        https://www.mpi-inf.mpg.de/departments/computer-vision-and-machine-learning/research/
        vision-and-language/visual-turing-challenge; the reader in the authors' Kraino library
        (questions without the image name).
    """
    image_id = image_namer(options)
    for path in files["questions"]:
        number = 0
        question = ""
        first_unpaired = ""
        for line_number, line in lines(path, problems):
            where = f"line {line_number} of {short_name(path)}"
            if _IMAGE.search(line):
                if question:
                    problems.add("no-annotation", f"before {where}")
                number, question = number + 1, line.strip()
            elif question:
                # The image is named at the end of the question.
                image = _IMAGE.findall(question)[-1]
                text = _MENTION.sub("", question).strip()
                question = ""
                if not text:
                    problems.add(FieldError.kind, f"the question before {where} is empty")
                    continue
                yield Example(
                    example_id=str(number),
                    text=text,
                    image_ids=(image_id(f"image{image}.png"),),
                    label=Answers((line.strip(),)),
                )
            else:
                first_unpaired = first_unpaired or line
                problems.add("no-question", f"{where}: {line!r:.40}")
        if question:
            problems.add("no-annotation", f"at the end of {short_name(path)}")
        if first_unpaired and not number:
            raise ValueError(
                f"{path} is not in DAQUAR's format: expected alternating lines of questions and "
                "answers, where each question names its image (... in the image12 ?), but found "
                f"{first_unpaired!r:.60}"
            )
