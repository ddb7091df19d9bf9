import json
from collections import Counter
from pathlib import Path

import pytest

from vlray.tasks import catalogue
from vlray.tasks.example import Answers, Example
from vlray.tasks.metrics import score
from vlray.tasks.problems import Problems


def read(dataset: str, split: str, path: Path) -> tuple[list[Example], Problems]:
    problems = Problems()
    files = {"examples": (str(path),)}
    return list(catalogue.find(dataset).read(split, files, problems)), problems


def test_every_drawing_of_nlvr_is_an_example_and_there(shared: Path) -> None:
    folder = shared / "fixtures" / "nlvr" / "dev"
    examples, problems = read("nlvr", "dev", folder / "dev.json")
    assert not problems.counts
    assert len(examples) == 5934
    assert len({example.about["identifier"] for example in examples}) == 989
    images = {file.stem: file.parent.name for file in (folder / "images").rglob("*.png")}
    assert {example.image_ids[0] for example in examples} == set(images)
    assert {example.about["directory"] for example in examples} == set(images.values())
    labels = Counter(example.label.answers[0] for example in examples)
    assert set(labels) == set(catalogue.find("nlvr").spec.classes)


def test_pairs_of_nlvr2_are_left_and_right_of_the_identifier(shared: Path) -> None:
    path = shared / "fixtures" / "nlvr2" / "dev_first200.jsonl"
    examples, problems = read("nlvr2", "dev", path)
    assert not problems.counts
    assert len(examples) == 200
    assert examples[1].example_id == "dev-850-2-0"
    assert examples[1].image_ids == ("dev-850-2-img0", "dev-850-2-img1")
    assert examples[1].label == Answers(("True",))
    assert examples[1].about["synset"] == "beer bottle"
    # Consistency is over the pairs of one sentence: its text is the same in all of them.
    sentences: dict[str, set[str]] = {}
    for example in examples:
        sentences.setdefault(example.about["group"], set()).add(example.text)
    assert all(len(texts) == 1 for texts in sentences.values())


def test_a_set_of_drawings_is_consistent_when_all_of_its_images_are_right(tmp_path: Path) -> None:
    lines = [
        {"sentence": "There is a blue tower.", "identifier": identifier, "label": "true"}
        for identifier in ("1085-0", "1085-3", "72-0")
    ]
    path = tmp_path / "dev.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    examples, _ = read("nlvr", "dev", path)
    predictions = {example.example_id: "true" for example in examples}
    predictions["dev-1085-3-5"] = "false"
    values = score("accuracy and consistency", examples, predictions).values
    assert values == {"accuracy": pytest.approx(100 * 17 / 18), "consistency": 50}


def test_a_broken_line_costs_that_line(tmp_path: Path) -> None:
    good = {"sentence": "Two dogs.", "identifier": "dev-1-0-0", "label": "True"}
    odd = {"sentence": "Two dogs.", "identifier": "dev-1-0"}
    path = tmp_path / "dev.json"
    path.write_text(f"{json.dumps(good)}\n{json.dumps(good)[:30]}\n{json.dumps(odd)}\n")
    examples, problems = read("nlvr2", "dev", path)
    assert [example.example_id for example in examples] == ["dev-1-0-0"]
    assert problems.counts == {"broken-line": 1, "incomplete": 1}
    assert problems.examples["broken-line"][0].startswith("line 2 of dev.json")


def test_json_lines_of_another_dataset_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "dev.json"
    path.write_text('{"pairID": "1", "sentence2": "A dog."}\n' * 2)
    with pytest.raises(ValueError, match="the keys pairID, sentence2"):
        read("nlvr2", "dev", path)
