"""``vlray test`` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluation.made import ANSWERS, TRUTH, World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def call(world: World, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    given = ["--data.root", str(world.root), "--data.cache-dir", str(world.root / "cache")]
    given += ["--env.runs-dir", str(folder / "runs"), "--images-root", str(world.images)]
    command = [sys.executable, "-W", "error", "-m", "vlray.test", *flags, *given]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def test_a_test_prints_its_figures_and_says_where_the_files_are(
    world: World, tmp_path: Path
) -> None:
    checkpoint = world.checkpoint("visualbert", TRUTH, prefers=1)
    done = call(world, tmp_path, checkpoint, "nlvr2:dev")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["value", "95", "%", "interval", "n"]
    assert lines[1].split()[:2] == ["accuracy", "50.00"]
    assert lines[2].split() == ["consistency", "0.00", "0.00", "to", "0.00", "6"]
    [run] = (tmp_path / "runs" / "default").iterdir()
    names = ["metrics.json", "predictions.json", "submission.csv", "index.html"]
    assert [Path(line).name for line in lines[4:]] == names
    assert all((run / name).is_file() for name in names)
    said = json.loads((run / "status.json").read_text())["result"]
    interval = " ".join(lines[1].split()[2:5])
    assert said == f"accuracy 50.00 ({interval}, {lines[1].split()[5]} examples)"
    assert json.loads((run / "metrics.json").read_text())["command"].startswith("vlray test /")


def test_what_does_not_fit_ends_with_status_2_and_a_sentence(world: World, tmp_path: Path) -> None:
    checkpoint = world.checkpoint("lxmert", ANSWERS)
    done = call(world, tmp_path, checkpoint, "nlvr2:dev", "--output", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "vlray test: the examples of nlvr2:dev have 2 images each" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
