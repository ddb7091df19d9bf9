"""The test command from its arguments to its files, its words and its status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fixtures.commands import Call
from tests.fixtures.world import ANSWERS, TRUTH, World
from vlray import test as command


@pytest.fixture
def run_test(world: World, tmp_path: Path, call: Call) -> Call:
    """Call ``vlray test`` on the world."""
    given = ["--data.root", str(world.root), "--data.cache-dir", str(world.root / "cache")]
    given += ["--env.runs-dir", str(tmp_path / "runs"), "--images-root", str(world.images)]
    return lambda *arguments: call(command.main, *arguments, *given)


def test_a_test_prints_its_figures_and_says_where_the_files_are(
    world: World, tmp_path: Path, run_test: Call
) -> None:
    checkpoint = world.checkpoint("visualbert", TRUTH, prefers=1)
    done = run_test(checkpoint, "nlvr2:dev")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
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


def test_what_does_not_fit_ends_with_status_2_and_a_sentence(
    world: World, tmp_path: Path, run_test: Call
) -> None:
    checkpoint = world.checkpoint("lxmert", ANSWERS)
    done = run_test(checkpoint, "nlvr2:dev", "--output", str(tmp_path / "out"))
    assert done.status == 2
    assert "vlray test: each example in nlvr2:dev has 2 images" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()
