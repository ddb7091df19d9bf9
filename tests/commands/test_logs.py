"""vlray logs, as its users meet it: in a process of its own."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.fixtures.commands import Call
from vlray import logs as command
from vlray.config.logs import LogsConfig
from vlray.runs.folder import RunFolder, open_run

LOGS = [sys.executable, "-m", "vlray.logs"]
log = logging.getLogger("vlray.made_up")


@pytest.fixture
def logs(call: Call) -> Call:
    return lambda *arguments: call(command.main, *arguments)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*LOGS, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def begin(command: str = "train", project: str = "default") -> RunFolder:
    return open_run(LogsConfig(project=project), command)


def fail(status: int = 1) -> RunFolder:
    run = begin("train")
    log.error("there is no regions/")
    run.close("failed", is_refused=status == 2)
    return run


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_runs_of_a_project_are_listed_with_what_they_came_to(logs: Call) -> None:
    with closing(begin("extract")) as run:
        run.note("5 images, 10 regions")
        log.info("look at them")
    fail()
    assert not fail(status=2).path.exists()  # refused: nothing ran
    with closing(begin("view", project="other")):
        pass
    with closing(begin("train")):
        log.info("step 5 of 9")
        done = logs()
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()[1:]
    assert [line.split()[0].split("-")[0] for line in lines] == ["extract", "train", "train"]
    assert [line.split()[1] for line in lines] == ["finished", "failed", "running"]
    assert [line.rsplit("  ", 1)[1] for line in lines] == [
        "5 images, 10 regions", "there is no regions/", "step 5 of 9",
    ]  # fmt: skip
    assert len(logs("train", "--list").out.splitlines()) == 1 + 2
    assert " other/view-" in f" {logs('--all-projects').out}".replace("\n", " ")


def test_where_there_are_no_runs_it_says_which_projects_have_some(logs: Call) -> None:
    assert logs().out.startswith("no runs for project default in ")
    with closing(begin(project="nlvr2")):
        pass
    assert logs().out.endswith("; projects with runs: nlvr2 (--project)\n")
    done = logs("--follow")
    assert done.status == 2
    assert done.err.startswith("vlray logs: no runs for project default")


def test_the_last_lines_of_a_run_are_shown_and_how_to_repeat_it(logs: Call) -> None:
    with closing(begin()) as run:
        for number in range(50):
            log.info("line %d", number)
    done = logs("last", "--lines", "3")
    assert [line.rpartition(" line ")[2] for line in done.out.splitlines()] == ["47", "48", "49"]
    about, repeat = done.err.splitlines()
    assert about.startswith(f"{run.path}: finished, started ")
    again = f"cd {Path.cwd()} && vlray train --config {run.path.absolute()}/settings.yaml"
    assert repeat == f"repeat: {again}"
    shown = logs("train", "--command")
    assert (shown.status, shown.err) == (0, "")
    assert shown.out.replace(" \\\n  ", " ") == f"{again}\n"
    assert logs("train", "--lines", "0").out == run.log_path.read_text()
    assert logs(str(run.path), "--lines", "0").out == run.log_path.read_text()


def test_a_run_that_is_not_there_is_refused_with_the_nearest_name(logs: Call) -> None:
    with closing(begin()) as run:
        pass
    done = logs(f"tarin{run.path.name[5:]}")
    assert (done.status, done.out) == (2, "")
    assert f"did you mean {run.path.name}?" in done.err
    assert "Traceback" not in done.err


@pytest.mark.usefixtures("processes")
def test_a_log_is_followed_until_its_run_ends() -> None:
    with closing(begin()) as run:
        log.info("before")
        following = start("--follow")
        assert following.stdout is not None
        assert following.stdout.readline().endswith(" before\n")
        log.info("meanwhile")
        assert following.stdout.readline().endswith(" meanwhile\n")
        assert following.poll() is None
        log.info("at the end")
    out, err = following.communicate()
    assert out.endswith(" at the end\n")
    assert following.returncode == 0
    assert f"{run.path.name}: finished after 0:00:0" in err


@pytest.mark.usefixtures("processes")
def test_a_log_is_followed_that_is_not_there_yet(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "default" / "train-20261124-201500"
    folder.mkdir(parents=True)
    following = start(str(folder), "--follow")
    assert following.stderr is not None
    assert "unknown" in following.stderr.readline()  # it has begun
    time.sleep(0.5)
    (folder / "status.json").write_text('{"status": "finished"}')
    (folder / "default-train.log").write_text("begun late\n")
    assert following.communicate()[0] == "begun late\n"
    assert following.returncode == 0


@pytest.mark.usefixtures("processes")
def test_ctrl_c_ends_the_following_quietly() -> None:
    with closing(begin()):
        log.info("before")
        following = start("--follow")
        assert following.stdout is not None
        following.stdout.readline()
        following.send_signal(signal.SIGINT)
        out, err = following.communicate()
    assert following.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert len(err.splitlines()) == 2  # which run, and how it is repeated


@pytest.mark.usefixtures("processes")
def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    with closing(begin()):
        for number in range(5_000):  # more than a pipe holds
            log.info("line %d", number)
    shown = subprocess.run(
        f"{sys.executable} -m vlray.logs last --lines 0 | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.endswith(" line 0\n")
    assert "Traceback" not in shown.stderr
    assert "BrokenPipe" not in shown.stderr
