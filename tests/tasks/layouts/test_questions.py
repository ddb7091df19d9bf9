"""Datasets whose files are one list of questions: a real entry of each, and what it lacks."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vlray.tasks import catalogue
from vlray.tasks.example import Answers, Example
from vlray.tasks.problems import Problems


def read(dataset: str, split: str, path: Path) -> tuple[list[Example], Problems]:
    problems = Problems()
    [role] = catalogue.find(dataset).spec.splits[split].files
    return list(catalogue.find(dataset).read(split, {role: (str(path),)}, problems)), problems


def read_json(
    dataset: str, split: str, folder: Path, document: Any
) -> tuple[list[Example], Problems]:
    path = folder / "document.json"
    path.write_text(json.dumps(document))
    return read(dataset, split, path)


@pytest.mark.parametrize(
    ("split", "questions", "images"), [("train", 3064, 314), ("test", 451, 203)]
)
def test_vqa_rad_is_read_whole(shared: Path, split: str, questions: int, images: int) -> None:
    folder = shared / "fixtures" / "vqa_rad"
    examples, problems = read("vqa-rad", split, folder / f"{split}set.json")
    assert not problems.counts
    assert len({example.example_id for example in examples}) == questions
    named = {example.image_ids[0] for example in examples}
    assert len(named) == images
    assert named <= {file.stem for file in (folder / "images").iterdir()}
    kinds = Counter(example.about["answer_type"] for example in examples)
    assert set(kinds) == {"OPEN", "CLOSED"}  # some have a blank behind it in the file
    assert {example.about["organ"] for example in examples} == {"HEAD", "CHEST", "ABD"}


def test_vizwiz_is_predicted_by_image_and_knows_what_cannot_be_answered(tmp_path: Path) -> None:
    answers = [{"answer_confidence": "yes", "answer": "unanswerable"}] * 9
    entry = {
        "answerable": 0,
        "image": "VizWiz_val_00000028.jpg",
        "question": "What is this?",
        "answer_type": "unanswerable",
        "answers": [*answers, {"answer_confidence": "maybe", "answer": "a box"}],
    }
    [example], problems = read_json("vizwiz", "val", tmp_path, [entry])
    assert not problems.counts
    assert example.example_id == "VizWiz_val_00000028.jpg"
    assert example.image_ids == ("VizWiz_val_00000028",)
    assert example.label == Answers(("unanswerable",) * 9 + ("a box",))
    assert example.about == {"answer_type": "unanswerable", "answerable": "0"}
    [example], _ = read_json("vizwiz-answerability", "val", tmp_path, [entry])
    assert example.label == Answers(("0",))
    [example], _ = read_json(
        "vizwiz", "test", tmp_path, [{"image": "VizWiz_test_1.jpg", "question": "What is it?"}]
    )
    assert example.label is None


def test_every_answer_of_docvqa_is_right(tmp_path: Path) -> None:
    entry = {
        "questionId": 52212,
        "question": "Whose signature is given?",
        "question_types": ["handwritten", "form"],
        "image": "documents/txpn0095_1.png",
        "docId": 1968,
        "ucsf_document_id": "txpn0095",
        "ucsf_document_page_no": "1",
        "answers": ["Edward R. Shannon", "Edward Shannon"],
        "data_split": "train",
    }
    document = {"dataset_name": "docvqa", "dataset_split": "train", "data": [entry]}
    [example], problems = read_json("docvqa", "train", tmp_path, document)
    assert not problems.counts
    assert example.image_ids == ("txpn0095_1",)
    assert example.label == Answers(("Edward R. Shannon", "Edward Shannon"))
    assert example.about["question_types"] == "handwritten,form"


def test_visual_genomes_questions_are_flattened_over_images(tmp_path: Path) -> None:
    question = {
        "a_objects": [],
        "question": "What color is the clock?",
        "image_id": 1,
        "qa_id": 986768,
        "answer": "Green.",
        "q_objects": [],
    }
    second = {**question, "qa_id": 986777, "question": "How tall is it?", "answer": ""}
    images = [{"id": 1, "qas": [question, second]}, {"id": 2, "qas": []}]
    [example], problems = read_json("vg-qa", "all", tmp_path, images)
    assert (example.example_id, example.image_ids) == ("986768", ("1",))
    assert example.label == Answers(("Green.",))
    assert example.about == {"question_type": "what"}
    assert problems.counts == {"incomplete": 1}  # the one without an answer


@pytest.mark.parametrize("key", ["function", "type"])
def test_the_type_of_a_clevr_question_is_its_programs_last_step(tmp_path: Path, key: str) -> None:
    entry = {
        "image_index": 0,
        "program": [{"inputs": [], key: "scene"}, {"inputs": [0], key: "count"}],
        "question_index": 0,
        "image_filename": "CLEVR_val_000000.png",
        "question_family_index": 10,
        "split": "val",
        "answer": "3",
        "question": "How many things are there?",
    }
    [example], problems = read_json("clevr", "val", tmp_path, {"info": {}, "questions": [entry]})
    assert not problems.counts
    assert example == Example(
        "0",
        "How many things are there?",
        ("CLEVR_val_000000",),
        Answers(("3",)),
        {"question_family_index": "10", "question_type": "count"},
    )


@pytest.mark.parametrize(
    ("key", "image"), [("Flickr30K_ID", "4705552913"), ("Flikr30kID", "4705552913.jpg")]
)
def test_a_pair_of_snli_ve_is_a_hypothesis_and_its_image(
    tmp_path: Path, key: str, image: str
) -> None:
    entry = {
        "gold_label": "neutral",
        key: image,
        "captionID": "4705552913.jpg#2",
        "pairID": "4705552913.jpg#2r1n",
        "sentence1": "Two women are embracing.",
        "sentence2": "The sisters are hugging.",
    }
    path = tmp_path / "snli_ve_dev.jsonl"
    path.write_text(json.dumps(entry) + "\n")
    [example], problems = read("snli-ve", "dev", path)
    assert not problems.counts
    assert example.image_ids == ("4705552913",)
    assert example.label == Answers(("neutral",))
    assert example.text == "The sisters are hugging."
    assert example.about == {"premise": "Two women are embracing."}


def test_datasets_are_read_from_object_storage(bucket: str, shared: Path) -> None:
    from vlray.storage import files

    source = shared / "fixtures" / "vqa_rad" / "testset.json"
    fs, folder = files.resolve(bucket)
    files.write_atomic(fs, f"{folder}/testset.json", source.read_bytes())
    split = catalogue.find("vqa-rad").read(
        "test", {"questions": (f"{bucket}/testset.json",)}, Problems()
    )
    assert list(split) == read("vqa-rad", "test", source)[0]


@pytest.mark.parametrize("name", catalogue.built_in_names())
def test_every_split_names_the_files_that_its_layout_reads(name: str) -> None:
    from vlray.tasks.layout import roles_of

    dataset = catalogue.find(name)
    assert isinstance(dataset, catalogue.SpecDataset)
    roles = roles_of(dataset.layout)
    assert roles
    for split in dataset.spec.splits.values():
        if not split.of:
            assert set(split.files) <= set(roles)
            assert {role for role in roles if roles[role] == "required"} <= set(split.files)
