"""Loading what a string names."""

from __future__ import annotations

import pickle
import re
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from vlray.settings import plugins

SOURCE = "from dataclasses import dataclass\n\n@dataclass\nclass Mine:\n    size: int = 3\n"


def test_a_class_of_a_module_is_loaded() -> None:
    assert plugins.load("fractions:Fraction") is Fraction


@pytest.mark.parametrize("absolute", [True, False])
def test_a_class_of_a_file_is_loaded(monkeypatch, tmp_path, absolute) -> None:
    path = tmp_path / "with space" / "my-file.py"
    path.parent.mkdir()
    path.write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    place = path if absolute else path.relative_to(tmp_path)
    mine = plugins.load(f"{place}:Mine")
    assert mine().size == 3
    # The same file by any path is the same class, whose instances can be sent elsewhere.
    assert plugins.load(f"{path}:Mine") is mine
    assert pickle.loads(pickle.dumps(mine(4))) == mine(4)


def test_files_of_one_name_do_not_hide_each_other(tmp_path) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "same.py").write_text(f"VALUE = {number}\n")
    values = [plugins.load(f"{tmp_path / str(number) / 'same.py'}:VALUE") for number in (1, 2)]
    assert values == [1, 2]


def test_a_file_that_was_edited_is_loaded_again(tmp_path) -> None:
    path = tmp_path / "edited.py"
    path.write_text("VALUE = 1\n")
    assert plugins.load(f"{path}:VALUE") == 1
    path.write_text("VALUE = 2\n")
    assert plugins.load(f"{path}:VALUE") == 2


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("Mine", "use module:Class"),
        ("", "use module:Class"),
        (":Mine", "use module:Class"),
        ("fractions:", "use module:Class"),
        ("fractions:1st", "use module:Class"),
        ("..:Mine", "use module:Class"),
        ("a..b:Mine", "use module:Class"),
        ("no_such_package.module:Mine", "no module named 'no_such_package'"),
        ("fractions.nothing:Mine", "no module named 'fractions.nothing'"),
        ("nowhere/file.py:Mine", "no such file"),
        ("fractions:Fracton", "fractions has no 'Fracton'; it has Fraction"),
    ],
)
def test_a_bad_string_is_named_beside_a_good_one(target, said) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as refusal:
        plugins.load(target)
    assert repr(target) in str(refusal.value)


@pytest.mark.parametrize("as_module", [True, False])
def test_an_import_that_fails_inside_is_the_users_to_see(monkeypatch, tmp_path, as_module) -> None:
    path = tmp_path / "needs_more.py"
    path.write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    target = "needs_more:Mine" if as_module else f"{path}:Mine"
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere") as refusal:
        plugins.load(target)
    assert any(target in note for note in refusal.value.__notes__)
    assert not [name for name in sys.modules if Path(name).name.endswith("needs_more")]
