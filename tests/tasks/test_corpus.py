"""Corpora: which parts, how they are written, what is refused, what their examples are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from vlray.config.data import DataSection
from vlray.tasks.corpus import CorpusSpec, open_corpus, parse_parts
from vlray.tasks.labels import LabelSpace
from vlray.tasks.problems import DataError
from vlray.tasks.saved_corpora import corpus_names, load_corpus, save_corpus


@pytest.fixture
def data(
    lines_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> DataSection:
    """Two datasets of the user's own, ``mine`` and ``other``, with mistakes in both."""
    monkeypatch.setenv("VLRAY_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "datasets").mkdir(parents=True)
    for name, answers in [("mine", ["red", "blue", "red"]), ("other", ["green", "red"])]:
        entries: list[object] = [
            {"id": f"{name}{i}", "text": "what color?", "images": [str(i)], "answer": answer}
            for i, answer in enumerate(answers)
        ]
        spec = yaml.safe_load(lines_dataset([*entries, "{broken"], name=name).read_text())
        lines = tmp_path / f"{name}.jsonl"
        lines.write_bytes((tmp_path / "train.jsonl").read_bytes())
        spec["splits"] = {"train": {"files": {"lines": lines.name}}}
        (tmp_path / "home" / "datasets" / f"{name}.yaml").write_text(yaml.safe_dump(spec))
    folders = {"mine": str(tmp_path), "other": str(tmp_path)}
    return DataSection(annotations=folders, cache_dir=str(tmp_path / "cache"))


def test_parts_are_read_as_they_are_written() -> None:
    spec = CorpusSpec.model_validate(
        {"parts": "vqa:train, vqa:nominival,gqa:train=2.5@vg", "mix": "weight"}
    )
    assert [part.name for part in spec.parts] == ["vqa:train", "vqa:nominival", "gqa:train"]
    assert [part.weight for part in spec.parts] == [1, 1, 2.5]
    assert [part.regions for part in spec.parts] == ["", "", "vg"]
    listed = CorpusSpec.model_validate(
        {
            "parts": ["vqa:train", {"dataset": "vqa", "split": "nominival"}, "gqa:train=2.5@vg"],
            "mix": "weight",
        }
    )
    assert listed == spec


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ("vqa:train=x", "the weight of 'vqa:train=x' is 'x'"),
        ("vqa:train=0", "a number above 0"),
        ("vqa:train=inf", "a number above 0"),
        ("vqa:train:val", "is not a part; write dataset:split"),
        ("", "the corpus has no parts"),
    ],
)
def test_parts_of_another_form_are_refused(parts: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_parts(parts)


def test_a_part_twice_and_weights_without_effect_are_refused() -> None:
    with pytest.raises(ValueError, match="vqa:train is in the corpus twice"):
        CorpusSpec(parts=parse_parts("vqa:train,vqa:val,vqa:train"))
    with pytest.raises(ValueError, match="weight of vqa:val has no effect with mix: size"):
        CorpusSpec(parts=parse_parts("vqa:train,vqa:val=2"))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ("vqaa:train", "unknown dataset 'vqaa'; did you mean vqa?"),
        ("vqa:trian", "unknown split of vqa 'trian'; did you mean train?"),
        ("vqa", "vqa names no split; use vqa:SPLIT with one of train, val"),
    ],
)
def test_what_is_not_in_the_catalogue_is_refused_with_the_choices(parts: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        open_corpus(parts)


def test_examples_are_numbered_through_and_labels_united(data: DataSection) -> None:
    corpus = open_corpus("other:train,mine:train", data)
    assert len(corpus) == 5
    taken = corpus.take(np.array([4, 0, 1, 3, 0]))
    assert [example.example_id for example in taken] == [
        "mine2",
        "other0",
        "other1",
        "mine1",
        "other0",
    ]
    assert corpus.label_space is not None
    assert corpus.label_space.names == ("blue", "green", "red")
    other_way = open_corpus("mine:train,other:train", data)
    assert other_way.label_space == corpus.label_space


def test_the_labels_of_a_training_can_be_used_for_an_evaluation(data: DataSection) -> None:
    space = LabelSpace(("red", "green"))
    assert open_corpus("mine:train", data, space).label_space is space


def test_problems_of_all_parts_are_told_together(
    data: DataSection, caplog: pytest.LogCaptureFixture
) -> None:
    open_corpus("mine:train,other:train", data)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "mine:train: 1 unreadable line or entry" in warning
    assert "other:train: 1 unreadable line or entry" in warning
    with pytest.raises(DataError, match=r"(?s)mine:train: 1 .*other:train: 1 .*on-bad skip"):
        open_corpus("mine:train,other:train", data.model_copy(update={"on_bad": "stop"}))


def test_a_corpus_is_kept_by_name_in_its_project(data: DataSection) -> None:
    spec = CorpusSpec.model_validate({"parts": "mine:train=3,other:train@vg", "mix": "weight"})
    path = save_corpus("both", spec, "p")
    assert path.parts[-3:] == ("corpora", "p", "both.yaml")
    assert load_corpus("both", "p") == spec
    assert corpus_names("p") == ["both"]
    assert corpus_names("q") == []
    with pytest.raises(ValueError, match="unknown corpus of project p 'bot'; did you mean both"):
        load_corpus("bot", "p")
    with pytest.raises(ValueError, match="cannot be the name of a corpus"):
        save_corpus("../both", spec, "p")
    with pytest.raises(ValueError, match="unknown dataset"):
        save_corpus("wrong", CorpusSpec(parts=parse_parts("no:train")), "p")
    path.write_text("parts: 3")
    with pytest.raises(ValueError, match=r"both.yaml is not a corpus"):
        load_corpus("both", "p")


def test_lxmerts_minival_and_nominival_are_the_two_parts_of_vqas_val(tmp_path: Path) -> None:
    questions = [
        {"question_id": 10 * image + k, "image_id": image, "question": "is it?"}
        for image in range(1, 5006)
        for k in range(1 + image % 2)
    ]
    annotations = [
        {k: entry[k] for k in ("question_id", "image_id")}
        | {"question_type": "is it", "answer_type": "yes/no", "multiple_choice_answer": "yes"}
        | {"answers": [{"answer": "yes", "answer_id": 1}]}
        for entry in questions
    ]
    order = np.random.default_rng(0).permutation(np.arange(1, 5006))
    rows = [{"img_id": f"COCO_val2014_{image:012d}", "sent": "?"} for image in order.tolist()]
    for name, value in [
        ("v2_OpenEnded_mscoco_val2014_questions.json", {"questions": questions}),
        ("v2_mscoco_val2014_annotations.json", {"annotations": annotations}),
        ("minival.json", rows),
    ]:
        (tmp_path / name).write_text(json.dumps(value))
    data = DataSection(annotations={"vqa": str(tmp_path)}, cache_dir=str(tmp_path / "cache"))

    def ids(split: str) -> set[str]:
        (table,) = open_corpus(f"vqa:{split}", data).tables
        return set(table.column("example_id").to_pylist())

    mini, rest = ids("minival"), ids("nominival")
    assert mini | rest == ids("val")
    assert not mini & rest
    assert {int(example_id) // 10 for example_id in mini} == set(order[:5000].tolist())
    both = open_corpus("vqa:minival,vqa:nominival", data)
    assert len(both) == len(questions)
