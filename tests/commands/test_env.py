"""The env command: what it shows and changes, its words and its status."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.commands import Call
from vlray import env as command


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call) -> Call:
    """Call ``vlray env`` with a state of its own."""
    monkeypatch.setenv("VLRAY_HOME", str(tmp_path))
    return lambda *arguments: call(command.main, *arguments)


def test_what_is_set_is_shown_until_it_is_unset(env, tmp_path) -> None:
    assert env("path") == (0, f"{tmp_path / 'settings.yaml'}\n", "")
    assert "No options are set" in env("show")[1]
    assert env("set", "project", "nlvr2") == (0, "project = nlvr2\n", "")
    assert env("set", "models.mine", "package:Detector")[0] == 0
    assert env("set", "min_score", "0.5")[0] == 0
    status, out, _ = env()
    assert status == 0
    rows = [line.split(maxsplit=2) for line in out.splitlines()]
    every = "extract, view, convert, compare, datasets, train, test, export, tune, pipeline, logs"
    every += ", configs, doctor"
    assert rows == [
        ["key", "value", "used by"],
        ["project", "nlvr2", every],
        ["models.mine", "package:Detector", "extract"],
        ["min_score", "0.5", "view"],
    ]
    assert env("unset", "project") == (0, "", "")
    assert "nlvr2" not in env("show")[1]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("data.images.daquar", "the image set nyu-depth; set data.images.nyu-depth"),
        ("data.annotations.nyu-depth", "set data.annotations.daquar for annotations"),
    ],
)
def test_a_dataset_and_its_image_set_are_not_mixed_up(env, key, words) -> None:
    status, _, err = env("set", key, "somewhere")
    assert status == 2
    assert words in err
    assert "No options are set" in env("show")[1]


def test_mistakes_end_with_status_2_and_say_what_to_do(env, tmp_path) -> None:
    status, out, err = env("set", "projct", "x")
    assert (status, out) == (2, "")
    assert err == "vlray env: unknown option projct; did you mean project?\n"
    assert env("unset", "project")[2] == "vlray env: project is not set; no options are set\n"
    (tmp_path / "settings.yaml").write_text("- no mapping")
    status, _, err = env("show")
    assert status == 2
    assert "write a mapping of settings" in err
