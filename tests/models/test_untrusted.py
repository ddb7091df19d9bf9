"""Files never decide which code runs: only the user names a class."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlray.config.model import ModelSection
from vlray.models.load import load_checkpoint
from vlray.models.names import named

EVIL = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
"""


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A checkpoint that names a class in a file beside it."""
    loader = {"boxes": "xyxy", "num_boxes": 4}
    goal = {"objective": "labels", "feature_dim": 8, "labels": ["yes", "no"]}
    values = {"model": {"name": f"{tmp_path}/evil.py:M"}, "goal": goal, "loader": loader}
    about = {"vlray_version": "0.1", "corpus": "vqa-rad:train", "regions": {}, "provenance": {}}
    (tmp_path / "evil.py").write_text(EVIL)
    (tmp_path / "vlray.json").write_text(json.dumps(values | about))
    (tmp_path / "config.json").write_text('{"model_type": "lxmert"}')
    return tmp_path


def test_a_checkpoint_does_not_import_the_class_that_it_names(evil: Path) -> None:
    with pytest.raises(ValueError, match=r"evil\.py:M', and vlray imports no code.*--model-name"):
        load_checkpoint(evil)
    assert not (evil / "ran").exists()


@pytest.mark.parametrize("model", ["other.py:M", "evil.py:N", "evil:M", ""])
def test_another_class_than_that_of_the_checkpoint_is_refused(evil: Path, model: str) -> None:
    with pytest.raises(ValueError, match="and vlray imports no code because a file names it"):
        load_checkpoint(evil, model)
    assert not (evil / "ran").exists()


def test_the_class_that_the_user_names_is_imported_wherever_it_is_now(evil: Path) -> None:
    moved = evil / "moved"
    moved.mkdir()
    (moved / "evil.py").write_text(EVIL)
    with pytest.raises(ValueError, match="has no 'M'"):
        load_checkpoint(evil, f"{moved}/evil.py:M")
    assert (moved / "ran").exists()
    assert not (evil / "ran").exists()


def test_weights_do_not_decide_which_class_is_imported(evil: Path) -> None:
    with pytest.raises(ValueError, match=r"--model\.name .*evil\.py:M"):
        named(ModelSection(weights=str(evil)))
    assert not (evil / "ran").exists()
