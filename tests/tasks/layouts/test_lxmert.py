import json
from pathlib import Path

import pytest

from vlray.config.data import DataSection
from vlray.tasks import catalogue
from vlray.tasks.example import Answers
from vlray.tasks.examples import open_examples
from vlray.tasks.layouts.lxmert import read_image_order
from vlray.tasks.problems import DataError, Problems

QUESTION = {
    "answer_type": "other",
    "img_id": "COCO_val2014_000000458752",
    "label": {"net": 1, "netting": 0.3},
    "question_id": 458752000,
    "question_type": "what is this",
    "sent": "What is this photo taken looking through?",
}


def test_soft_labels_are_kept_with_their_scores(tmp_path: Path) -> None:
    path = tmp_path / "minival.json"
    path.write_text(json.dumps([QUESTION]))
    files = {"questions": (str(path),)}
    [example] = catalogue.find("vqa-lxmert").read("minival", files, Problems())
    assert example.image_ids == ("458752",)
    assert example.label == Answers(("net", "netting"), (1.0, 0.3))
    assert example.example_id == "458752000"


def test_pretraining_sentences_are_flattened_by_source(tmp_path: Path) -> None:
    entry = {
        "img_id": "2354786",
        "sentf": {"vg": ["a white wall"], "vgqa": ["What is on it?", "Where?"]},
        "labelf": {"vgqa": [{"pipe": 1.0}, {}]},
    }
    path = tmp_path / "vgnococo.json"
    path.write_text(json.dumps([entry, {"img_id": "1", "sentf": {"vg": None}}]))
    files = {"sentences": (str(path),)}
    problems = Problems()
    everything = list(catalogue.find("lxmert-pretraining").read("train", files, problems))
    assert problems.counts == {"incomplete": 1}
    assert [example.example_id for example in everything] == [
        "2354786_vg_000",
        "2354786_vgqa_000",
        "2354786_vgqa_001",
    ]
    assert everything[0].label is None
    questions = list(catalogue.find("vgqa").read("train", files, Problems()))
    assert questions == everything[1:]
    assert questions[0].label == Answers(("pipe",), (1.0,))


def test_the_order_of_images_is_read_of_every_form(tmp_path: Path, shared: Path) -> None:
    names = ["COCO_val2014_000000000042", "COCO_val2014_000000000073"]
    (tmp_path / "minival.json").write_text(
        json.dumps([{**QUESTION, "img_id": name} for name in (names[0], names[0], names[1])])
    )
    (tmp_path / "images.txt").write_text("\n".join(f"{name}.jpg" for name in names))
    assert list(read_image_order(str(tmp_path / "minival.json"), "coco")) == ["42", "73"]
    assert list(read_image_order(str(tmp_path / "images.txt"))) == names
    [tsv] = (shared / "fixtures" / "butd").rglob("*.tsv")
    features = list(read_image_order(str(tsv), "coco"))
    assert len(features) == 10
    assert "132417" in features


def test_half_an_order_of_images_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "minival.json"
    path.write_text(json.dumps([QUESTION, QUESTION])[:-20])
    with pytest.raises(DataError, match="breaks off"):
        list(read_image_order(str(path)))


def test_minival_and_nominival_share_out_the_validation_questions(tmp_path: Path) -> None:
    folder = tmp_path / "vqa"
    folder.mkdir()
    spec = catalogue.find("vqa").spec
    questions = [
        {"image_id": image, "question": "Is it?", "question_id": image * 1000 + number}
        for image in range(1, 5011)
        for number in range(2)
    ]
    answers = [{**entry, "answers": [{"answer": "yes"}]} for entry in questions]
    val = spec.splits["val"].files
    (folder / str(val["questions"])).write_text(json.dumps({"questions": questions}))
    (folder / str(val["annotations"])).write_text(json.dumps({"annotations": answers}))
    (folder / "minival.json").write_text(
        json.dumps([{"img_id": f"COCO_val2014_{image:012d}"} for image in range(5010, 10, -1)])
    )
    data = DataSection(annotations={"vqa": str(folder)}, cache_dir=str(tmp_path / "cache"))
    dataset = catalogue.find("vqa")
    minival = open_examples(dataset, "minival", data)
    nominival = open_examples(dataset, "nominival", data)
    assert (len(minival), len(nominival)) == (10_000, 20)
    assert {nominival[index].image_ids[0] for index in range(20)} == set(map(str, range(1, 11)))
    assert minival[0].image_ids == ("11",)
