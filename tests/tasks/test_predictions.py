"""Files of predictions are read in every official form."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlray.tasks import predictions


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("vqa.json", '[{"question_id": 1, "answer": "red"}]', {"1": "red"}),
        ("gqa.json", '[{"questionId": "01", "prediction": "no"}]', {"01": "no"}),
        ("vizwiz.json", '[{"image": "V_0.jpg", "answer": ""}]', {"V_0.jpg": ""}),
        ("nlvr2.csv", "dev-0-0-0,True\r\n\r\ndev-0-1-0, False\n", None),
        ("boxes.json", '{"7": [1, 2, 3, 4]}', {"7": [1, 2, 3, 4]}),
    ],
)
def test_each_official_form_is_read(
    tmp_path: Path, name: str, text: str, found: dict[str, object] | None
) -> None:
    (tmp_path / name).write_text(text)
    expected = found or {"dev-0-0-0": "True", "dev-0-1-0": "False"}
    assert predictions.read(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.json", '[{"question_id": 1, "answer": "a"}, {"question_id": 1, "answer": "b"}]', "'1'"),
        ("p.json", '{"1": "a", "1": "b"}', "'1' appears twice"),
        ("p.json", '[{"question_id": 1}]', "entry 0 is .*question_id.*answer, prediction"),
        ("p.json", "[3]", "entry 0 is 3"),
        ("p.json", '"a"', "it contains a str"),
        ("p.json", "[", "p.json is not a file of predictions"),
        ("p.csv", "dev-0-0-0\n", "line 1 has 1 values"),
        ("p.csv", "a,True\na,False\n", "'a' appears twice"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        predictions.read(tmp_path / name)
