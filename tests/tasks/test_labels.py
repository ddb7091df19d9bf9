"""Label spaces: read, counted, united, and targets over them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.tasks import labels
from vlray.tasks.answers import SoftScore, answer_name, normalize_answer
from vlray.tasks.example import Answers, Example
from vlray.tasks.examples import ExampleTable, table_from
from vlray.tasks.labels import (
    LabelSpace,
    has_known_answer,
    labels_of,
    most_frequent,
    targets,
    unite,
)
from vlray.tasks.problems import Problems
from vlray.tasks.spec import DatasetSpec, SplitSpec

Make = Callable[..., ExampleTable]


@pytest.fixture
def make_table(tmp_path: Path) -> Make:
    """Make a table of examples that have these answers."""

    def make(
        answers: Sequence[Answers | None],
        about: Sequence[dict[str, str]] | None = None,
        **options: object,
    ) -> ExampleTable:
        spec = DatasetSpec.model_validate(
            {
                "name": "tiny",
                "title": "Tiny",
                "purposes": ["question answering"],
                "layout": "vqa",
                "image_set": "tiny",
                "labels": "answers",
                "metric": "vqa accuracy",
                "splits": {"train": SplitSpec()},
                **options,
            }
        )
        examples = (
            Example(str(number), "What?", ("1",), label, about[number] if about else {})
            for number, label in enumerate(answers)
        )
        return table_from(examples, spec, "train", tmp_path / "tiny.arrow")

    return make


@pytest.mark.parametrize(("dataset", "count"), [("vqa", 3129), ("gqa", 1842)])
def test_the_official_answers_keep_their_ids(shared: Path, dataset: str, count: int) -> None:
    folder = shared / "fixtures/answers"
    path = folder / f"{dataset}_trainval_label2ans.json"
    space = LabelSpace.from_file(path)
    names = json.loads(path.read_text())
    assert len(space) == count
    assert [space.id_of(name) for name in names] == list(range(count))
    assert space == LabelSpace.from_file(folder / f"{dataset}_trainval_ans2label.json")


def test_a_text_file_has_a_name_a_line(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(b"<unk>\r\nyes\r\nthe dog\r\n")
    assert LabelSpace.from_file(tmp_path / "names.txt").names == ("<unk>", "yes", "the dog")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 0, "b": 2}', "not 0 to 1"),
        ('["a", "a"]', "appear twice, such as 'a'"),
        ("3", "expected a list of names"),
        ("{", "names.json is not a label space"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        LabelSpace.from_file(tmp_path / "names.json")


@given(st.lists(st.lists(st.text(max_size=3), unique=True), min_size=1, max_size=4), st.randoms())
def test_united_labels_do_not_depend_on_the_order(names: list[list[str]], rng: object) -> None:
    spaces = [LabelSpace(tuple(some)) for some in names]
    united = unite(spaces)
    rng.shuffle(spaces)
    assert unite(spaces) == united
    assert set(united.names) == {name for some in names for name in some}


def test_one_space_united_with_itself_keeps_its_ids() -> None:
    space = LabelSpace(("yes", "no", "a"))
    assert unite([space, LabelSpace(space.names)]).names == ("yes", "no", "a")
    assert unite([space, LabelSpace(("b",))]).names == ("a", "b", "no", "yes")


def test_equal_spaces_have_the_same_digest_and_others_do_not() -> None:
    assert LabelSpace(("a", "b")).sha256 == LabelSpace(("a", "b")).sha256
    assert LabelSpace(("a", "b")).sha256 != LabelSpace(("b", "a")).sha256


def test_a_label_is_an_answer_that_most_people_gave_to_enough_questions(make_table: Make) -> None:
    table = make_table(
        [
            Answers(("Two", "Two", "one")),
            Answers(("2", "2", "one")),
            Answers(("one", "three", "3", "three")),
            None,
            Answers(()),
        ],
        soft_score="vqa",
        min_frequency=2,
    )
    assert labels_of(table).names == ("2",)


def test_the_most_given_answer_is_the_files_where_it_has_one(make_table: Make) -> None:
    table = make_table(
        [Answers(("red", "blue"))], [{"multiple_choice_answer": "Blue"}], soft_score="vqa"
    )
    assert labels_of(table).names == ("blue",)


def test_of_scores_in_the_file_the_highest_counts(make_table: Make) -> None:
    table = make_table([Answers(("red", "blue"), (0.3, 0.9))], soft_score="lxmert")
    assert labels_of(table).names == ("blue",)


def test_exact_answers_are_counted_in_lower_case(make_table: Make) -> None:
    table = make_table([Answers(("Yes",)), Answers(("yes ",)), Answers(("no",))], min_frequency=2)
    space = labels_of(table)
    assert space.names == ("yes",)
    assert space.id_of("Yes") == 0


def test_answers_of_several_splits_are_counted_together(make_table: Make) -> None:
    table = make_table([Answers(("yes",)), Answers(("no",)), Answers(("yes",))], min_frequency=2)
    train, val = (table.part(name, np.array(rows)) for name, rows in (("a", [0, 1]), ("b", [2])))
    assert labels_of(train).names == ()
    assert labels_of(train, val).names == ("yes",)


def test_classes_keep_the_order_of_the_spec(make_table: Make) -> None:
    table = make_table([Answers(("True",))], labels="classes", classes=["True", "False"])
    assert labels_of(table).names == ("True", "False")


def test_a_dataset_without_labels_has_no_label_space(make_table: Make) -> None:
    with pytest.raises(ValueError, match="tiny has no label space: its spec has labels: none"):
        labels_of(make_table([None], labels="none"))


def test_the_most_frequent_label_is_of_all_tables_and_of_the_space(make_table: Make) -> None:
    given = [Answers((name,)) for name in ("No", "no", "no", "yes", "yes", "two")]
    table = make_table(given, metric="exact match", soft_score="exact")
    assert most_frequent(LabelSpace(("yes", "no", "two")), table) == "no"
    assert most_frequent(LabelSpace(("yes", "two")), table, table) == "yes"
    assert most_frequent(LabelSpace(("red",)), table) == ""
    classes = make_table(
        [Answers((name,)) for name in ("True", "False", "True")],
        labels="classes",
        classes=("False", "True"),
        metric="accuracy",
        soft_score="exact",
    )
    assert most_frequent(LabelSpace(("False", "True")), classes) == "True"


def test_answers_outside_the_space_are_counted_and_found(make_table: Make) -> None:
    table = make_table(
        [Answers(("red",)), None, Answers(("mauve", "puce")), Answers(())], soft_score="vqa"
    )
    problems = Problems()
    known = has_known_answer(table, LabelSpace(("red",)), problems)
    assert known.tolist() == [True, True, False, False]
    assert problems.counts == {"unknown-answer": 2}
    assert problems.examples["unknown-answer"] == ["2 (mauve, puce)", "3 (no answer)"]


def test_a_target_has_the_score_of_each_label_and_is_zero_for_unknown_answers() -> None:
    labels = [
        Answers(("Red", "red", "red.", *["blue"] * 7)),
        Answers(("mauve",) * 10),
        None,
    ]
    examples = [Example(str(n), "What?", ("1",), label) for n, label in enumerate(labels)]
    found = targets(examples, LabelSpace(("blue", "green", "red")), "vqa")
    np.testing.assert_allclose(found, [[1, 0, 0.9], [0, 0, 0], [0, 0, 0]], atol=1e-6)


PRETRAINED = ("t-shirt", "at the camera", "living room, kitchen", "man", "gray", "2", "none", "0")


def test_every_answer_of_lxmerts_pretraining_is_its_own_class() -> None:
    space = LabelSpace((*PRETRAINED, "grey", "the end"))
    examples = [Example(name, "What?", ("1",), Answers((name,), (1.0,))) for name in space.names]
    found = targets(examples, space, "lxmert-pretraining")
    np.testing.assert_array_equal(found, np.eye(len(space)))


def test_answers_of_lxmerts_pretraining_are_spelled_as_lxmert_does(make_table: Make) -> None:
    labels = [Answers((text,), (1.0,)) for text in ("A man", "Grey.", "two", "t-shirt", "zero")]
    table = make_table(labels, soft_score="lxmert-pretraining")
    assert labels_of(table).names == ("2", "gray", "man", "t-shirt", "zero")
    problems = Problems()
    known = has_known_answer(table, LabelSpace(PRETRAINED), problems)
    assert known.tolist() == [True, True, True, True, False]
    examples = table.take(np.arange(4))
    rows = targets(examples, LabelSpace(PRETRAINED), "lxmert-pretraining").argmax(1)
    assert [PRETRAINED[row] for row in rows] == ["man", "gray", "2", "t-shirt"]


@pytest.mark.parametrize("how", ["vqa", "exact"])
def test_labels_are_counted_alike_in_pieces_and_one_by_one(
    make_table: Make, monkeypatch: pytest.MonkeyPatch, how: SoftScore
) -> None:
    monkeypatch.setattr(labels, "AT_ONCE", 7)
    rng = np.random.default_rng(0)
    words = ["yes", "Yes", "no", "No.", "2", "two", "a dog", "dog", "red", "left of it"]
    for _ in range(10):
        answers: list[Answers | None] = []
        about = []
        for _ in range(40):
            said = tuple(words[number] for number in rng.integers(len(words), size=rng.integers(8)))
            scores = tuple(rng.choice([0.3, 0.6, 1.0], len(said)).tolist())
            answers.append(
                None if rng.random() < 0.1 else Answers(said, scores if rng.random() < 0.5 else ())
            )
            most = {"multiple_choice_answer": said[-1]} if said and rng.random() < 0.5 else {}
            about.append(most)
        table = make_table(answers, about, soft_score=how, min_frequency=3)
        counts: Counter[str] = Counter()
        for one, most in zip(answers, about, strict=True):
            if one is None or not one.answers:
                continue
            if how == "exact":
                counts.update({answer.strip().lower() for answer in one.answers})
                continue
            votes: dict[str, float] = {}
            for answer, weight in zip(one.answers, one.scores or [1.0] * 9, strict=False):
                votes[answer] = votes.get(answer, 0) + weight
            winner = max(votes, key=lambda answer: votes[answer])
            counts[normalize_answer(most.get("multiple_choice_answer", winner))] += 1
        space = labels_of(table)
        assert space == LabelSpace.from_counts(counts, 3)
        problems = Problems()
        known = has_known_answer(table, space, problems)
        for one, is_known in zip(answers, known, strict=True):
            names = () if one is None else [answer_name(answer, how) for answer in one.answers]
            assert is_known == (one is None or any(space.id_of(name) is not None for name in names))
        assert problems.counts.get("unknown-answer", 0) == (~known).sum()
