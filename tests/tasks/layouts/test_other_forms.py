"""Files in another form than their layout are refused, not read as empty or wrong texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlray.config.data import DataSection
from vlray.tasks import catalogue
from vlray.tasks.examples import open_examples
from vlray.tasks.layout import roles_of
from vlray.tasks.problems import Problems

LISTS = {
    "unrelated": [{"a": n, "b": "text"} for n in range(3)],
    "lists": [[1], [2]],
    "vqa": {"questions": [{"a": n} for n in range(3)], "annotations": [{"b": 1}] * 3},
    "coco": {
        "images": [{"id": n, "file_name": f"{n}.jpg", "height": 4, "width": 4} for n in range(3)],
        "categories": [],
        "annotations": [{"id": n, "image_id": n, "caption": "a"} for n in range(3)],
    },
    "mapping": {str(n): {"a": 1} for n in range(3)},
}
READ = {("coco-captions", "coco")}
"""Datasets whose form this is."""


@pytest.mark.parametrize("form", LISTS)
def test_every_dataset_refuses_other_json(tmp_path: Path, form: str) -> None:
    data = DataSection(cache_dir=str(tmp_path / "cache"))
    path = tmp_path / "file.json"
    path.write_text(json.dumps(LISTS[form]))
    for name in catalogue.names():
        dataset = catalogue.find(name)
        split = next(name for name, part in dataset.spec.splits.items() if not part.of)
        roles = roles_of(dataset.layout) or {}
        # FUNSD and Flickr30k Entities read folders.
        if (name, form) in READ or name in ("funsd", "flickr30k-entities"):
            continue
        files = {role: str(path) for role, need in roles.items() if need == "required"}
        spec = dataset.spec.model_copy(
            update={
                "splits": {split: dataset.spec.splits[split].model_copy(update={"files": files})}
            }
        )
        with pytest.raises(ValueError, match=r"file\.json"):
            open_examples(catalogue.SpecDataset(spec), split, data)


def read(dataset: str, files: dict[str, Path]) -> tuple[list[Any], Problems]:
    spec = catalogue.find(dataset)
    problems = Problems()
    split = next(iter(spec.spec.splits))
    paths = {role: (str(path),) for role, path in files.items()}
    return list(spec.read(split, paths, problems)), problems


def test_words_are_lists_of_tokens_and_answers_are_lists_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    entry = {"annot_id": "1", "img_fn": "a.jpg", "question": "why so", "answer_choices": ["ab"] * 4}
    path.write_text(f"{json.dumps(entry)}\n" * 2)
    with pytest.raises(ValueError, match="'why so' is a text, not a list of tokens"):
        read("vcr-qa", {"examples": path})
    page = {"questionId": 1, "question": "what?", "image": "a.png", "answers": "seven"}
    path.write_text(json.dumps({"data": [page] * 2}))
    with pytest.raises(ValueError, match="answers is 'seven', not a list"):
        read("docvqa", {"questions": path})


def test_pages_and_captions_without_words_or_phrases_are_not_examples(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"form": [{"text": "x", "box": [1, 2, 3, 4]}]}))
    examples, problems = read("funsd", {"forms": tmp_path})
    assert examples == []
    assert "a.json has no words" in problems.examples["incomplete"]
    for name in "12":
        (tmp_path / f"{name}.txt").write_text("A man sits.\n")
        (tmp_path / f"{name}.xml").write_text("<annotation></annotation>")
    (tmp_path / "list").write_text("1\n2\n")
    with pytest.raises(ValueError, match=r"no caption of .* marks a phrase"):
        read(
            "flickr30k-entities",
            {"images": tmp_path / "list", "sentences": tmp_path, "boxes": tmp_path},
        )
