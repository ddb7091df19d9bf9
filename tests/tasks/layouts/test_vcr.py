import json
from pathlib import Path
from typing import Any

from vlray.tasks import catalogue
from vlray.tasks.example import Choices, Example
from vlray.tasks.problems import Problems

MOVIE = "3015_CHARLIE_ST_CLOUD"
FRAME = f"lsmdc_{MOVIE}/{MOVIE}_00.23.57.935-00.24.00.783@0"
ENTRY: dict[str, Any] = {
    "movie": MOVIE,
    "objects": ["person", "person", "person", "car"],
    "img_fn": f"{FRAME}.jpg",
    "metadata_fn": f"{FRAME}.json",
    "img_id": "train-0",
    "annot_id": "train-0",
    "question": ["Does", [2], "feel", "comfortable", "?"],
    "answer_choices": [
        ["Yes", "because", "the", "person", "sitting", "next", "to", "her", "is", "smiling", "."],
        ["No", "she", "does", "not", "."],
        ["Yes", ",", [0, 2], "do", "."],
        ["She", "sits", "in", [3], "."],
    ],
    "answer_label": 1,
    "rationale_choices": [[[2], "looks", "away", "."], ["b"], ["c"], ["d"]],
    "rationale_label": 0,
}


def read(dataset: str, split: str, path: Path, *entries: Any) -> tuple[list[Example], Problems]:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    problems = Problems()
    files = {"examples": (str(path),)}
    return list(catalogue.find(dataset).read(split, files, problems)), problems


def test_objects_are_named_in_the_question_and_its_answers(tmp_path: Path) -> None:
    [example], problems = read("vcr-qa", "train", tmp_path / "train.jsonl", ENTRY)
    assert not problems.counts
    assert example.text == "Does person3 feel comfortable ?"
    assert isinstance(example.label, Choices)
    assert example.label.correct == 1
    assert example.label.texts[2:] == ("Yes , person1 and person3 do .", "She sits in car4 .")
    assert example.image_ids == (f"{MOVIE}_00.23.57.935-00.24.00.783@0",)
    assert example.about == {
        "objects": "person,person,person,car",
        "metadata": f"{FRAME}.json",
        "movie": MOVIE,
    }


def test_reasons_are_asked_for_the_right_answer(tmp_path: Path) -> None:
    [example], _ = read("vcr-qar", "train", tmp_path / "train.jsonl", ENTRY)
    assert example.text == "Does person3 feel comfortable ? No she does not ."
    assert example.label == Choices(("person3 looks away .", "b", "c", "d"), 0)


def test_unpublished_labels_and_unknown_objects_are_told_apart(tmp_path: Path) -> None:
    hidden = {key: value for key, value in ENTRY.items() if not key.endswith("_label")}
    wrong = {**ENTRY, "annot_id": "test-1", "question": ["Is", [4], "?"]}
    examples, problems = read("vcr-qa", "test", tmp_path / "test.jsonl", hidden, wrong)
    assert [example.label.correct for example in examples] == [-1]
    assert problems.counts == {"incomplete": 1}
    assert "object [4] is out of range: there are 4" in problems.examples["incomplete"][0]
