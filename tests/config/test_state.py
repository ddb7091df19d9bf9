"""The lasting state, from Python; ``vlray env`` itself is tested among the commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from vlray.config.extract import ExtractConfig
from vlray.settings import state
from vlray.settings.reader import from_cli


def test_a_stored_value_is_the_default_of_the_next_run(home) -> None:
    state.store("project", "nlvr2")
    state.store("detector.max-boxes", "100")
    state.store("split", "train,val")
    state.store("images.follow_symlinks", "no")
    state.store("detector.options.depth", "50")
    config = from_cli(ExtractConfig, ["a", "b"])
    assert (config.project, config.split) == ("nlvr2", ("train", "val"))
    assert config.detector.max_boxes == 100
    assert config.detector.options == {"depth": 50}
    assert not config.images.follow_symlinks
    # The file reads as if it had been written by hand.
    assert yaml.safe_load((home / "settings.yaml").read_text())["detector"]["max_boxes"] == 100
    state.remove("project")
    assert from_cli(ExtractConfig, ["a", "b"]).project == "default"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("detctor.name", "x", "did you mean detector.name?"),
        ("max_boxes", "1", "did you mean detector.max_boxes?"),
        ("detector", "lite", "unknown option detector"),
        ("config", "x.yaml", "unknown option config"),
        ("detector.max_boxes", "many", "detector.max_boxes is 'many'"),
        ("detector.max_boxes", "0", "detector.max_boxes is"),
        ("output.dtype", "float8", "'float16' or 'float32'"),
        ("models.", "x", "is not a valid model name"),
        ("models.a:b", "x", "is not a valid model name"),
        ("models", "x", "is not a valid model name"),
        ("models.a", "a.py", "'a.py' names no class; pass a.py:Class"),
        ("models.a", "a.py:", "'a.py:' names no class; pass a.py:Class"),
    ],
)
def test_a_mistake_is_refused_and_changes_nothing(home, key, value, said) -> None:
    state.store("project", "kept")
    before = (home / "settings.yaml").read_bytes()
    with pytest.raises(ValueError, match=re.escape(said)):
        state.store(key, value)
    assert (home / "settings.yaml").read_bytes() == before
    assert [path.name for path in home.iterdir()] == ["settings.yaml"]


def test_models_are_stored_by_name_and_found_from_anywhere(monkeypatch, tmp_path) -> None:
    (tmp_path / "mine.py").write_text("")
    state.store("models.mine-2.0", "mine.py:Detector")
    state.store("models.zoo", "https://example.org/config.yaml")
    state.store("models.theirs", "package.module:Detector")
    monkeypatch.chdir(tmp_path / "home")
    assert state.stored_models() == {
        "mine-2.0": f"{tmp_path / 'mine.py'}:Detector",
        "zoo": "https://example.org/config.yaml",
        "theirs": "package.module:Detector",
    }
    assert from_cli(ExtractConfig, ["a", "b"]).project == "default"
    state.remove("models.mine-2.0")
    assert "mine-2.0" not in state.stored_models()


def test_a_stored_folder_is_the_same_from_everywhere(tmp_path) -> None:
    assert state.store("env.data_dir", "data") == str(tmp_path / "data")
    assert state.store("env.runs_dir", "~/runs") == str(Path.home() / "runs")
    assert state.store("data.annotations.mine", "own") == str(tmp_path / "own")
    assert state.store("data.images.mine", "s3://bucket/own") == "s3://bucket/own"
    assert state.store("data.cache_dir", "cache") == str(tmp_path / "cache")
    # A folder that is only in the data folder is meant there, as by a flag.
    (tmp_path / "data" / "coco").mkdir(parents=True)
    assert state.store("data.images.coco", "coco") == str(tmp_path / "data" / "coco")


def test_an_option_and_a_section_of_one_name_are_not_mixed_up() -> None:
    state.store("output.dtype", "float32")
    with pytest.raises(ValueError, match="vlray env unset output"):
        state.store("output", "regions")


def test_a_key_from_elsewhere_can_be_taken_out(home) -> None:
    (home / "settings.yaml").write_text("old_option: 1\nproject: x")
    state.remove("old_option")
    assert state.entries() == {("project",): "x"}
    with pytest.raises(ValueError, match="old_option is not set; options that are set: project"):
        state.remove("old_option")


def test_models_that_are_no_mapping_are_refused_until_they_are_taken_out(home) -> None:
    (home / "settings.yaml").write_text("models: mine.py:Detector")
    with pytest.raises(ValueError, match="vlray env unset models"):
        state.stored_models()
    state.remove("models")
    assert state.stored_models() == {}


def test_without_a_home_the_file_is_in_the_users_configuration(monkeypatch) -> None:
    monkeypatch.delenv("VLRAY_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/somewhere")
    assert state.settings_path().name == "settings.yaml"
    assert state.settings_path().parent.name == "vlray"


def test_names_of_the_users_own_keep_their_hyphens(home) -> None:
    state.store("data.annotations.vqa-rad", "/data/vqa-rad")
    assert state.read_state() == {"data": {"annotations": {"vqa-rad": "/data/vqa-rad"}}}
    state.remove("data.annotations.vqa-rad")
    assert not state.entries()
