import json
from pathlib import Path
from typing import Any

import pytest

from vlray.tasks import catalogue
from vlray.tasks.example import Answers, Example
from vlray.tasks.problems import Problems

QUESTIONS = [
    {"image_id": 458752, "question": "What is this photo taken looking through?", "question_id": 1},
    {"image_id": 458752, "question": "What position is this man playing?", "question_id": 2},
    {"image_id": 9, "question": "Is this man a professional?", "question_id": 3},
]


def annotation(question_id: int, answers: list[str]) -> dict[str, Any]:
    return {
        "question_type": "what is this",
        "multiple_choice_answer": answers[0],
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": number}
            for number, answer in enumerate(answers, 1)
        ],
        "image_id": 458752,
        "answer_type": "other",
        "question_id": question_id,
    }


ANNOTATIONS = [
    annotation(1, ["net"] * 9 + ["netting"]),
    annotation(2, ["pitcher"] * 10),
    annotation(3, ["yes"] * 10),
]


def read(
    folder: Path, questions: Any, annotations: Any = None, split: str = "train"
) -> tuple[list[Example], Problems]:
    files = {"questions": (str(folder / "questions.json"),)}
    (folder / "questions.json").write_text(json.dumps({"info": {}, "questions": questions}))
    if annotations is not None:
        files["annotations"] = (str(folder / "annotations.json"),)
        (folder / "annotations.json").write_text(json.dumps({"annotations": annotations}))
    problems = Problems()
    return list(catalogue.find("vqa").read(split, files, problems)), problems


def test_a_question_has_its_ten_answers_and_the_number_of_its_image(tmp_path: Path) -> None:
    examples, problems = read(tmp_path, QUESTIONS, ANNOTATIONS)
    assert not problems.counts
    assert [example.example_id for example in examples] == ["1", "2", "3"]
    assert examples[0] == Example(
        "1",
        "What is this photo taken looking through?",
        ("458752",),
        Answers(("net",) * 9 + ("netting",)),
        {
            "question_type": "what is this",
            "answer_type": "other",
            "multiple_choice_answer": "net",
        },
    )


def test_images_have_coco_names_where_the_id_rule_says_so(tmp_path: Path) -> None:
    spec = catalogue.find("vqa").spec.model_copy(update={"id_rule": "stem"})
    (tmp_path / "q.json").write_text(json.dumps({"questions": QUESTIONS}))
    files = {"questions": (str(tmp_path / "q.json"),)}
    examples = list(catalogue.SpecDataset(spec).read("train", files, Problems()))
    assert examples[0].image_ids == ("COCO_train2014_000000458752",)


def test_annotations_of_another_order_find_their_questions(tmp_path: Path) -> None:
    in_order, _ = read(tmp_path, QUESTIONS, ANNOTATIONS)
    examples, problems = read(tmp_path, QUESTIONS, ANNOTATIONS[::-1])
    assert not problems.counts
    assert sorted(examples, key=lambda example: example.example_id) == in_order


def test_test_questions_have_no_label(tmp_path: Path) -> None:
    examples, problems = read(tmp_path, QUESTIONS, split="test")
    assert [example.label for example in examples] == [None] * 3
    assert not problems.counts


def test_what_has_no_other_half_is_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    lonely = annotation(77, ["red"])
    examples, problems = read(tmp_path, QUESTIONS, [lonely, *ANNOTATIONS[1:]])
    assert [example.example_id for example in examples] == ["2", "3"]
    assert problems.counts == {"no-annotation": 1, "no-question": 1}
    assert problems.examples["no-question"] == ["question_id 77 of annotations.json"]


def test_questions_without_text_or_image_are_counted(tmp_path: Path) -> None:
    bad = [{"image_id": 1, "question": " ", "question_id": 8}, {"question": "?", "question_id": 9}]
    examples, problems = read(tmp_path, [*QUESTIONS, *bad])
    assert len(examples) == 3
    assert problems.counts == {"incomplete": 1, "no-image": 1}


def test_misshapen_entries_are_counted_and_stop_nothing(tmp_path: Path) -> None:
    bad = [{**ANNOTATIONS[0], "answers": ["net"]}, {**ANNOTATIONS[1], "question_id": [2]}]
    examples, problems = read(tmp_path, QUESTIONS, [*bad, ANNOTATIONS[2]])
    assert [example.example_id for example in examples] == ["3"]
    assert problems.counts == {"incomplete": 2, "no-annotation": 1}


def test_a_cut_file_gives_what_came_before_the_cut(tmp_path: Path) -> None:
    read(tmp_path, QUESTIONS, ANNOTATIONS)
    whole = (tmp_path / "annotations.json").read_text()
    (tmp_path / "annotations.json").write_text(whole[: whole.rindex("yes") - 40])
    files = {role: (str(tmp_path / f"{role}.json"),) for role in ("questions", "annotations")}
    problems = Problems()
    examples = list(catalogue.find("vqa").read("train", files, problems))
    assert [example.example_id for example in examples] == ["1", "2"]
    assert problems.counts == {"cut-off": 1, "no-annotation": 1}
    assert "after 2 entries of annotations" in problems.examples["cut-off"][0]


def test_a_file_of_another_layout_is_refused_with_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "gqa.json"
    path.write_text('{"0102": {"imageId": "1", "question": "?"}}')
    with pytest.raises(ValueError, match="under 'questions', found the keys 0102"):
        list(catalogue.find("vqa").read("train", {"questions": (str(path),)}, Problems()))


def test_ok_vqa_is_read_by_the_same_layout(tmp_path: Path) -> None:
    read(tmp_path, QUESTIONS, [{**entry, "question_type": "seven"} for entry in ANNOTATIONS])
    files = {role: (str(tmp_path / f"{role}.json"),) for role in ("questions", "annotations")}
    examples = list(catalogue.find("ok-vqa").read("val", files, Problems()))
    assert examples[0].about["question_type"] == "seven"


def test_ids_that_are_numbers_in_one_file_and_text_in_the_other_are_joined(tmp_path: Path) -> None:
    texts = [{**one, "question_id": str(one["question_id"])} for one in ANNOTATIONS]
    examples, problems = read(tmp_path, QUESTIONS, texts)
    assert not problems.counts
    assert [example.example_id for example in examples] == ["1", "2", "3"]
    assert all(example.label for example in examples)
