"""GQA's figures on a few questions, reckoned by hand; tests/benchmarks/scorers.py has many."""

from __future__ import annotations

import pytest

from vlray.tasks.example import Answers, Example
from vlray.tasks.metrics import Metrics, Share, score


def question(name: str, answer: str, **about: str) -> Example:
    return Example(name, "Is it red?", ("1",), Answers((answer,)), about)


QUESTIONS = [
    question("1", "red", structural="query", semantic="attr", group="color", entailed="1 3 4"),
    question("2", "blue", structural="query", semantic="attr", group="color"),
    question("3", "yes", structural="verify", semantic="obj", entailed="1"),
    question("4", "no", structural="verify", semantic="obj", balanced="false"),
]
ANSWERS = {"1": "red", "2": "red", "3": "yes", "4": "yes"}


def scored(choices: dict[str, dict[str, list[str]]] | None = None) -> Metrics:
    return score("gqa accuracy", QUESTIONS, ANSWERS, choices=choices)


def test_accuracy_is_of_the_balanced_questions() -> None:
    values = scored().values
    assert values["accuracy"] == pytest.approx(200 / 3)
    assert values["open"] == 50
    assert values["binary"] == 100
    assert scored().by["semantic"] == {"attr": Share(50, 2), "obj": Share(100, 1)}


def test_consistency_is_the_mean_over_what_right_answers_entail() -> None:
    assert scored().values["consistency"] == pytest.approx(75)  # 1 of 2 for "1", 1 of 1 for "3"


def test_consistency_is_left_out_where_entailed_questions_are_not_given() -> None:
    assert "consistency" not in score("gqa accuracy", QUESTIONS[:3], ANSWERS).values


def test_distribution_compares_the_answers_of_a_group() -> None:
    # red: 1 right, 2 given; blue: 1 right, none given
    assert scored().values["distribution"] == pytest.approx((1 / 1 + 1 / 1) / 100)


def test_answers_are_valid_and_plausible_by_the_choices_file() -> None:
    one = {"valid": ["red", "yes"], "plausible": ["yes"]}
    values = scored(dict.fromkeys(ANSWERS, one)).values
    assert values["validity"] == 100
    assert values["plausibility"] == pytest.approx(100 / 3)
    assert "validity" not in scored().values


def test_a_question_without_choices_is_refused() -> None:
    with pytest.raises(ValueError, match="question 1 is not in the choices file"):
        scored({})
