"""Submission files in the format of a dataset's official evaluation or leaderboard."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping

from vlray.tasks.predictions import Predictions
from vlray.tasks.spec import Submission


def encode(predictions: Predictions, form: Submission) -> tuple[str, bytes] | None:
    """Encode predictions in the official format.

    Ids that are numbers in the dataset's own files are written as numbers.

    Args:
        predictions: Predictions keyed by example_id.
        form: Format from the dataset's spec; ``none``: the dataset has no official format.

    Returns:
        Name and content of the file; None if there is no official format.

    Source:
        ``vqa``: visualqa.org and GT-Vision-Lab/VQA, ``[{"question_id", "answer"}]``. ``gqa``:
        eval.py of gqadataset.org, ``[{"questionId", "prediction"}]``. ``vizwiz``: the challenge,
        ``[{"image", "answer"}]``. ``docvqa``: rrc.cvc.uab.es, ``[{"questionId", "answer"}]``.
        ``nlvr``: lil-lab/nlvr, nlvr/metrics_images.py and nlvr2/eval/metrics.py, one
        line ``identifier,True`` per example.
    """
    if form == "none":
        return None
    if form == "nlvr":
        sink = io.StringIO()
        csv.writer(sink, lineterminator="\n").writerows(predictions.items())
        return "submission.csv", sink.getvalue().encode()
    id_key, value_key = _KEYS[form]
    rows = [
        {id_key: _number(name) if form in _NUMBERED else name, value_key: value}
        for name, value in predictions.items()
    ]
    return "submission.json", json.dumps(rows).encode()


_KEYS: Mapping[Submission, tuple[str, str]] = {
    "vqa": ("question_id", "answer"),
    "gqa": ("questionId", "prediction"),
    "vizwiz": ("image", "answer"),
    "docvqa": ("questionId", "answer"),
}
# GQA's ids are digits, too, but its own files have them as strings.
_NUMBERED: frozenset[Submission] = frozenset({"vqa", "docvqa"})


def _number(example_id: str) -> int | str:
    # isdigit alone also accepts superscripts, which int refuses.
    return int(example_id) if example_id.isascii() and example_id.isdigit() else example_id
