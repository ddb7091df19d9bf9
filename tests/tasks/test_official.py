"""Scores that the official evaluations gave, question by question.

The figures are what GT-Vision-Lab/VQA's vqaEval.py (run by Python 2.7, n=12) said of these answers
and predictions; they were got with the driver in tests/benchmarks/scorers.py, which compares ten
thousand at a time, and NLVR2's and GQA's scripts as well.
"""

from __future__ import annotations

import pytest

from vlray.tasks.answers import vqa_score

DOTS = "." * 40 + "x"  # of which only 32 are taken away


@pytest.mark.parametrize(
    ("answers", "prediction", "official"),
    [
        ({"yes": 10}, "Yes", 0.0),  # nothing is normalized where all agree
        ({"yes": 10}, "yes\n", 100.0),
        ({"Yes": 9, "no": 1}, "YES", 100.0),
        ({"two": 3, "2": 3, "three": 4}, "2", 100.0),
        ({"none": 2, "0": 1, "5": 7}, "zero", 90.0),
        ({"dont know": 2, "don't know": 1, "maybe": 7}, "don't know", 90.0),
        ({"on/off": 4, "off": 6}, "on off", 100.0),
        ({"t-shirt": 3, "shirt": 7}, "t shirt", 90.0),
        ({"rock - roll": 3, "x": 7}, "rock roll", 90.0),
        ({"1,000": 3, "1000": 1, "5": 6}, "1000", 100.0),
        ({"3.5": 2, "35": 8}, "3.5", 60.0),
        ({"U.S.A.": 2, "usa": 1, "us": 7}, "usa", 90.0),
        ({"a dog": 1, "the dog": 1, "cat": 8}, "dog", 60.0),
        ({"somebody'd": 2, "x": 8}, "somebodyd", 60.0),
        ({DOTS: 3, "y": 7}, "x", 0.0),
        ({"a": 5, "the": 3, "b": 2}, "", 100.0),
        ({"\u0663,\u0664": 3, "q": 7}, "\u0663 \u0664", 90.0),  # no digits to Python 2
        ({"line\nbreak": 2, "x": 8}, "line break", 60.0),
        ({"red": 1}, "red", 0.0),  # no other answer is left to agree with
        ({"red": 1, "blue": 1}, "red", 16.666666666667),
        ({"x": 2, "y": 1}, "x", 44.444444444444),
    ],
)
def test_an_answer_scores_as_in_the_official_script(
    answers: dict[str, int], prediction: str, official: float
) -> None:
    given = [answer for answer, count in answers.items() for _ in range(count)]
    assert 100 * vqa_score(given, prediction) == pytest.approx(official, abs=1e-9)
