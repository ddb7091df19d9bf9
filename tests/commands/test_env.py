"""``python -m vlray.env`` as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def env(tmp_path: Path):
    """Run ``vlray env`` with a state of its own; give its status, output and errors."""

    def run(*args: str) -> tuple[int, str, str]:
        environ = {key: value for key, value in os.environ.items() if key[:6] != "VLRAY_"}
        done = subprocess.run(
            [sys.executable, "-m", "vlray.env", *args],
            env={**environ, "VLRAY_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr

    return run


def test_what_is_set_is_shown_until_it_is_unset(env, tmp_path) -> None:
    assert env("path") == (0, f"{tmp_path / 'settings.yaml'}\n", "")
    assert "Nothing is set" in env("show")[1]
    assert env("set", "project", "nlvr2") == (0, "project = nlvr2\n", "")
    assert env("set", "models.mine", "package:Detector")[0] == 0
    assert env("set", "min_score", "0.5")[0] == 0
    status, out, _ = env()
    assert status == 0
    rows = [line.split(maxsplit=2) for line in out.splitlines()]
    every = "extract, view, convert, compare, datasets, train, test, tune, pipeline, logs"
    assert rows == [
        ["key", "value", "used by"],
        ["project", "nlvr2", every],
        ["models.mine", "package:Detector", "extract"],
        ["min_score", "0.5", "view"],
    ]
    assert env("unset", "project") == (0, "", "")
    assert "nlvr2" not in env("show")[1]


def test_mistakes_end_with_status_2_and_say_what_to_do(env, tmp_path) -> None:
    status, out, err = env("set", "projct", "x")
    assert (status, out) == (2, "")
    assert err == "vlray env: unknown option projct; did you mean project?\n"
    assert env("unset", "project")[2] == "vlray env: project is not set; nothing is set\n"
    (tmp_path / "settings.yaml").write_text("- no mapping")
    status, _, err = env("show")
    assert status == 2
    assert "give a mapping of settings" in err
