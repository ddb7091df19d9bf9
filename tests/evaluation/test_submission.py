"""Official files: read back, and with ids as the official files have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlray.evaluation.submission import encode
from vlray.tasks import predictions
from vlray.tasks.catalogue import find
from vlray.tasks.spec import Submission


@pytest.mark.parametrize(
    ("dataset", "name", "given", "entry"),
    [
        ("vqa", "submission.json", {"42": "yes"}, {"question_id": 42, "answer": "yes"}),
        ("vqa-lxmert", "submission.json", {"42": "1"}, {"question_id": 42, "answer": "1"}),
        ("gqa", "submission.json", {"042": "a"}, {"questionId": "042", "prediction": "a"}),
        ("vizwiz", "submission.json", {"7.jpg": "a"}, {"image": "7.jpg", "answer": "a"}),
        ("docvqa", "submission.json", {"42": "a, b"}, {"questionId": 42, "answer": "a, b"}),
    ],
)
def test_json_has_the_keys_and_the_types_of_the_official_file(
    dataset: str, name: str, given: dict[str, str], entry: dict[str, object], tmp_path: Path
) -> None:
    found = encode(given, find(dataset).spec.submission)
    assert found is not None
    assert found[0] == name
    assert json.loads(found[1]) == [entry]
    (tmp_path / name).write_bytes(found[1])
    assert predictions.read(tmp_path / name) == given


@pytest.mark.parametrize("form", ["nlvr"])
def test_nlvr_is_a_line_for_each_as_its_scripts_split_them(
    form: Submission, tmp_path: Path
) -> None:
    given = {"dev-850-0-0": "True", "dev-850-0-1": "False"}
    found = encode(given, form)
    assert found is not None
    assert found == ("submission.csv", b"dev-850-0-0,True\ndev-850-0-1,False\n")
    (tmp_path / found[0]).write_bytes(found[1])
    assert predictions.read(tmp_path / found[0]) == given


def test_a_dataset_without_a_form_of_its_own_has_no_file() -> None:
    assert encode({"1": "a"}, find("vqa-rad").spec.submission) is None
