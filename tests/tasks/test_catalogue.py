"""Datasets by name: vlray's own, the user's, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlray.config.data import DataSection
from vlray.tasks import additions, catalogue
from vlray.tasks.examples import open_examples
from vlray.tasks.layout import load_layout, roles_of

CLASS = """
from vlray.tasks.example import Example
from vlray.tasks.spec import DatasetSpec, SplitSpec


class Counted:
    spec = DatasetSpec(
        name="counted", title="Numbers", purposes=("captioning",), layout="none",
        image_set="photos", metric="captioning", splits={"train": SplitSpec()},
    )

    def read(self, split, files, problems):
        for number in range(4):
            yield Example(str(number), split, ("a",))


class Nothing:
    pass
"""


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("VLRAY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("name", catalogue.built_in_names())
def test_each_built_in_dataset_can_be_read_by_its_layout(name: str) -> None:
    dataset = catalogue.find(name)
    assert dataset.spec.name == name
    roles = roles_of(load_layout(dataset.spec.layout))
    assert roles, f"the layout of {name} does not say its ROLES"
    for split_name, split in dataset.spec.splits.items():
        if not split.of:
            assert set(split.files) <= set(roles), split_name


def test_a_dataset_is_added_from_yaml_and_found_from_anywhere(
    lines_dataset, tmp_path, monkeypatch
) -> None:
    spec, kept = additions.add(str(lines_dataset([])), trust_code=True)
    assert kept.parent == catalogue.user_folder()
    monkeypatch.chdir("/")
    assert "mine" in catalogue.names()
    assert catalogue.find("mine").spec == spec
    # The file beside the YAML is found where it was; the one that is not there, in the folder.
    assert spec.splits["train"].files["lines"] == str(tmp_path / "train.jsonl")
    assert spec.splits["test"].files["lines"] == "official/test.jsonl"
    additions.remove("mine")
    assert "mine" not in catalogue.names()
    with pytest.raises(ValueError, match="unknown dataset of your own 'mine'"):
        additions.remove("mine")


def test_a_dataset_of_a_users_class_is_read_like_any_other(tmp_path, monkeypatch) -> None:
    (tmp_path / "own.py").write_text(CLASS)
    monkeypatch.chdir(tmp_path)
    additions.add("own.py:Counted")
    monkeypatch.chdir("/")
    dataset, split = catalogue.find_split("counted:train")
    table = open_examples(dataset, split, DataSection(cache_dir=str(tmp_path / "cache")))
    assert [example.example_id for example in table] == ["0", "1", "2", "3"]
    with pytest.raises(ValueError, match="is not a dataset: it needs a `spec`"):
        additions.add(f"{tmp_path / 'own.py'}:Nothing")


def test_a_file_that_is_gone_is_said_with_the_way_out(tmp_path) -> None:
    (tmp_path / "own.py").write_text(CLASS)
    additions.add(f"{tmp_path / 'own.py'}:Counted")
    (tmp_path / "own.py").unlink()
    with pytest.raises(ValueError, match=r"no such file: .* vlray datasets remove counted"):
        catalogue.find("counted")


def test_the_names_of_built_in_datasets_are_not_taken(lines_dataset) -> None:
    name = catalogue.built_in_names()[0]
    with pytest.raises(ValueError, match=r"is a built-in dataset.*name: my-"):
        additions.add(str(lines_dataset([], name=name)), trust_code=True)
    with pytest.raises(ValueError, match="only your own can be removed"):
        additions.remove(name)


def test_wrong_names_are_refused_with_the_choices(lines_dataset) -> None:
    additions.add(str(lines_dataset([])), trust_code=True)
    with pytest.raises(ValueError, match=r"unknown dataset 'mien'; did you mean mine\?"):
        catalogue.find("mien")
    with pytest.raises(ValueError, match=r"split of mine 'tset'; did you mean test\? There are"):
        catalogue.find_split("mine:tset")
    with pytest.raises(ValueError, match="use mine:SPLIT with one of train, test"):
        catalogue.find_split("mine")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"purposes": ["grounding", "cooking"]}, "purposes.1: it should be 'pretraining'"),
        ({"lables": "answers"}, r"unknown key lables \(did you mean labels\?\)"),
        ({"splits": {"train": {"file": {}}}}, r"splits.train.file \(did you mean files\?\)"),
        ({"name": "My Data"}, "name: String should match pattern"),
        (
            {"splits": {"mini": {"of": "val"}}},
            "split mini is a subset of val, which does not exist",
        ),
        ({"layout": "vqq"}, "unknown layout 'vqq'; the layouts are"),
        ({"layout": "nowhere:read"}, "no module named 'nowhere'"),
    ],
)
def test_a_mistake_in_a_yaml_file_is_said_with_its_place(lines_dataset, changed, said) -> None:
    with pytest.raises(ValueError, match=said):
        additions.add(str(lines_dataset([], **changed)), trust_code=True)
    assert catalogue.user_names() == []


def test_what_is_no_yaml_mapping_is_refused(tmp_path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("- a list")
    with pytest.raises(ValueError, match="contains a list; expected a mapping"):
        additions.add(str(file))
    file.write_text("a: [")
    with pytest.raises(ValueError, match="is not valid YAML"):
        additions.add(str(file))
    with pytest.raises(FileNotFoundError, match="does not exist; pass the YAML file"):
        additions.add(str(tmp_path / "none.yaml"))
