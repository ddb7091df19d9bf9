"""Metrics: what counts as right, what is grouped, what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlray.tasks import catalogue
from vlray.tasks.example import Answers, Boxes, Choices, Example
from vlray.tasks.layouts import nlvr
from vlray.tasks.metrics import Share, anls, score
from vlray.tasks.problems import Problems
from vlray.tasks.protocol import Layout


def ask(name: str, *answers: str, **about: str) -> Example:
    return Example(name, "What?", ("1",), Answers(answers), about)


def test_answers_of_lxmerts_pretraining_are_compared_in_its_spelling() -> None:
    metric = catalogue.find("vgqa").spec.metric
    examples = [ask("1", "A man."), ask("2", "Two"), ask("3", "t-shirt"), ask("4", "The end")]
    found = score(metric, examples, {"1": "man", "2": "2", "3": "T-shirt", "4": "an ending"})
    assert found.scores == {"1": 1, "2": 1, "3": 1, "4": 0}


def test_vqa_accuracy_is_broken_down_by_the_types() -> None:
    examples = [
        ask("1", *["yes"] * 10, answer_type="yes/no", question_type="is the"),
        ask("2", *["2", "two"] + ["3"] * 8, answer_type="number", question_type="how many"),
    ]
    found = score("vqa accuracy", examples, {"1": "yes", "2": "2"})
    assert found.values == {"vqa accuracy": pytest.approx(80)}
    assert found.by["answer_type"] == {"yes/no": Share(100, 1), "number": Share(60, 1)}
    assert found.by["question_type"]["how many"].percent == pytest.approx(60)


def test_missing_predictions_count_as_wrong_and_unknown_ones_are_said() -> None:
    examples = [ask("1", "a"), ask("2", "b"), ask("3", "c")]
    found = score("exact match", examples, {"1": "A ", "9": "x"})
    assert found.values["exact match"] == pytest.approx(100 / 3)
    assert (found.missing, found.unknown) == (("2", "3"), ("9",))
    assert "2 examples without a prediction, counted as wrong, such as 2, 3" in found.lines()
    assert "exact match: 33.33" in found.lines()


def test_vqa_rad_is_scored_by_exact_match_open_and_closed(shared: Path) -> None:
    entries = json.loads((shared / "fixtures/vqa_rad/testset.json").read_text())
    examples = [
        ask(str(number), str(entry["answer"]), answer_type=entry["answer_type"])
        for number, entry in enumerate(entries)
    ]
    found = score("exact match", examples, {example.example_id: "YES" for example in examples})
    yes = [entry for entry in entries if str(entry["answer"]).strip().lower() == "yes"]
    assert yes
    assert found.values["exact match"] == pytest.approx(100 * len(yes) / len(entries))
    assert {"OPEN", "CLOSED"} <= {kind.strip() for kind in found.by["answer_type"]}


@pytest.mark.parametrize(  # as many sentences as the official scripts tell apart
    ("read", "path", "num_sentences"),
    [
        (nlvr.pairs, "nlvr2/dev_first200.jsonl", 58),
        (nlvr.drawings, "nlvr/dev/dev.json", 267),
    ],
)
def test_nlvr_is_consistent_where_all_of_a_sentence_is_right(
    shared: Path, read: Layout, path: str, num_sentences: int
) -> None:
    files = {"examples": (str(shared / "fixtures" / path),)}
    examples = list(read(files, Problems(), {"id_rule": "stem", "split": "dev"}))
    right = {
        example.example_id: example.label.answers[0].title()
        for example in examples
        if isinstance(example.label, Answers)
    }
    found = score("accuracy and consistency", examples, right)
    assert found.values == {"accuracy": 100, "consistency": 100}

    right[examples[0].example_id] = "neither"
    found = score("accuracy and consistency", examples, right)
    assert found.values["accuracy"] == pytest.approx(100 * (1 - 1 / len(examples)))
    assert found.values["consistency"] == pytest.approx(100 * (1 - 1 / num_sentences))


def test_lxmerts_scores_are_taken_where_its_files_give_them() -> None:
    example = Example("1", "What?", ("1",), Answers(("red", "blue"), (0.3, 1.0)))
    assert score("vqa accuracy", [example], {"1": "red"}).values["vqa accuracy"] == 30
    assert score("vqa accuracy", [example], {"1": "green"}).values["vqa accuracy"] == 0


def test_choices_are_right_by_their_index() -> None:
    example = Example("1", "Why?", ("1",), Choices(("a", "b"), 1))
    assert score("accuracy", [example], {"1": 1}).values["accuracy"] == 100
    assert score("accuracy", [example], {"1": "0"}).values["accuracy"] == 0


@pytest.mark.parametrize(
    ("answers", "text", "similarity"),
    [
        (["Dr. Who"], "dr.  who", 1),
        (["abcd", "abcx"], "abcx", 1),
        (["abcd"], "abcx", 0.75),
        (["abcd"], "abxy", 0),  # half alike is not enough
        (["kitten"], "sitting", 1 - 3 / 7),
        ([""], "", 1),
    ],
)
def test_anls_is_the_best_similarity(answers: list[str], text: str, similarity: float) -> None:
    assert anls(answers, text) == pytest.approx(similarity)


def test_boxes_and_phrases_are_scored() -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    example = Example("1", "a dog", ("1",), Boxes((box,), names=("animals",), spans=((2, 5),)))
    assert score("box accuracy at IoU 0.5", [example], {"1": box}).values == {
        "box accuracy at IoU 0.5": 100
    }
    found = score("phrase recall", [example], {"1": [[(5, 5, 9, 9), box]]})
    assert found.values == {"R@1": 0, "R@5": 100, "R@10": 100}
    assert found.by["phrase"] == {"animals": Share(0, 1)}
    assert score("phrase recall", [example], {}).values["R@10"] == 0


def test_an_image_is_recalled_within_the_first_ranks() -> None:
    examples = [Example(str(n), "a dog", (f"i{n}",)) for n in range(2)]
    ranked = {"0": ["i0", "i1"], "1": ["x", "y", "i1"]}
    assert score("recall at k", examples, ranked).values == {"R@1": 50, "R@5": 100, "R@10": 100}


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="example 1: no answer to compare with"):
        score("vqa accuracy", [Example("1", "?", ("1",))], {"1": "a"})
    with pytest.raises(
        ValueError, match="'captioning' is not computed by vlray, which has vqa acc"
    ):
        score("captioning", [ask("1", "a")], {})
    with pytest.raises(ValueError, match="no examples to score"):
        score("accuracy", [], {})
