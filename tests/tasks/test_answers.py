"""Answers are normalized and turned into soft scores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.tasks.answers import LXMERT_SCORES, leave_one_out, normalize_answer, soft_scores
from vlray.tasks.example import Answers


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Yes", "yes"),
        ("The  dog.", "dog"),
        ("None", "0"),
        ("ten", "10"),
        ("dont know", "don't know"),
        ("yall'd've", "y'all'd've"),
        ("1,000", "1000"),
        ("$3.50.", "$3.50"),
        ("on/off", "on off"),
        ("rock - roll", "rock roll"),
        ("a", ""),
    ],
)
def test_an_answer_is_normalized(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


@given(st.integers(0, 10))
def test_with_ten_answers_both_soft_scores_are_the_same(count: int) -> None:
    table = LXMERT_SCORES[count] if count < len(LXMERT_SCORES) else 1.0
    assert leave_one_out(count, 10) == pytest.approx(table, abs=1e-12)


@given(st.integers(1, 12), st.integers(0, 12))
def test_leaving_one_out_is_the_mean_over_the_subsets(total: int, count: int) -> None:
    count = min(count, total)
    answers = [True] * count + [False] * (total - count)
    subsets = [sum(answers[:i] + answers[i + 1 :]) for i in range(total)]
    mean = sum(min(1, n / 3) for n in subsets) / total
    assert leave_one_out(count, total) == pytest.approx(mean, abs=1e-12)


def test_answers_that_are_the_same_once_normalized_are_counted_together() -> None:
    answers = Answers(("two", "2", "Two.", *["three"] * 7))
    assert soft_scores(answers, "vqa") == pytest.approx({"2": 0.9, "3": 1.0})


def test_scores_of_the_file_are_taken_as_they_are() -> None:
    answers = Answers(("red", "blue"), (0.3, 1.0))
    assert soft_scores(answers, "lxmert") == {"red": 0.3, "blue": 1.0}


def test_an_exact_answer_stays_as_it_is() -> None:
    assert soft_scores(Answers(("The two ",)), "exact") == {"The two": 1.0}
