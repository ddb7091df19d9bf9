"""The settings of a search: its own, what is searched, and what stands behind ``--``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vlray.config.tune import TuneConfig
from vlray.runs.session import Session
from vlray.settings.reader import from_cli


def refusal(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as stop, Session("tune"):
        from_cli(TuneConfig, list(args))
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_what_stands_behind_the_mark_is_the_tuned_commands() -> None:
    config = from_cli(TuneConfig, ["out", "--trials", "3", "--", "extract", "in", "--trials", "x"])
    assert (config.output, config.trials) == ("out", 3)
    assert config.tuned == ("extract", "in", "--trials", "x")


@pytest.mark.parametrize(
    "args",
    [
        ["--space", "a=0.1,0.2", "b=1..2/3", "out"],
        ["--space", "a=0.1,0.2", "--space", "b=1..2/3", "out"],
        ["out", "--space=a=0.1,0.2", "--space=b=1..2/3"],
    ],
)
def test_several_options_are_searched_by_one_flag_or_by_several(args: list[str]) -> None:
    config = from_cli(TuneConfig, args)
    assert config.space == {"a": "0.1,0.2", "b": "1..2/3"}
    assert config.output == "out"


def test_a_file_may_give_numbers_lists_and_sections(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("space:\n  lr: [0.1, 0.2]\n  detector: {min_size: 400}\n  betas: 1..2\n")
    config = from_cli(TuneConfig, ["out", "--config", str(file), "--space", "betas=3"])
    assert config.space == {"lr": "[0.1, 0.2]", "detector.min_size": "400", "betas": "3"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--space"], "--space needs OPTION=VALUES"),
        (["--space", "out"], "--space needs OPTION=VALUES"),
        (["--space", "a="], "--space a=: write OPTION=VALUES"),
        (["--space", "a=1", "a=2"], "--space a is set twice"),
        (["--spaces", "a=1"], "did you mean --space?"),
        (["out", "--search", "guess"], "--search"),
    ],
)
def test_a_mistake_ends_with_status_2(args: list[str], words: str, capsys) -> None:
    assert words in refusal(capsys, *args)


@pytest.mark.usefixtures("processes")
def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from vlray import tune\n"
        "try:\n    tune.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'PIL', 'pyarrow', 'torch', 'ray', 'optuna'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ar@36" in done.stdout
