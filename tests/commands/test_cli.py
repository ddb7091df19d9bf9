"""``vlray`` and ``python -m vlray``."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from vlray import cli


def test_help_lists_the_commands_without_importing_them(capsys) -> None:
    cli.main(["--help"])
    out = capsys.readouterr().out
    for name, about in cli.COMMANDS.items():
        assert name in out
        assert about in out
    cli.main([])
    assert capsys.readouterr().out == out


def test_the_version_is_the_installed_one(capsys) -> None:
    cli.main(["--version"])
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"vlray {version('vlray')}"
    assert f"torch {version('torch')}, Ray {version('ray')}, Detectron2 0.6" in second


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("extrct", "unknown command extrct; did you mean extract?"),
        ("zzz", "unknown command zzz; the commands are"),
        ("--project", "begin with a command"),
    ],
)
def test_an_unknown_command_is_refused(capsys, word, said) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([word])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("processes")
def test_a_command_is_the_same_by_both_names() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-m", *name, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for name in (["vlray", "extract"], ["vlray.extract"])
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith("usage: vlray extract IMAGES OUT")
