"""Every command ends alike: the same status, words on the console, the traceback in the log."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayTaskError

from tests.deadlines import wait_until
from vlray.config.logs import LogsConfig
from vlray.runs.session import Failed, Session, is_mistake, raised_in_worker
from vlray.stream.run import DetectorError

WORK = {
    "extract": ("vlray.stream.command", "extract", ["photos", "out"]),
    "train": ("vlray.engine.command", "run_training", ["vqa-rad:train", "regions", "out"]),
    "test": ("vlray.evaluation.command", "test", ["out", "vqa-rad:test"]),
    "tune": (
        "vlray.tuning.command",
        "tune",
        ["sweep", "--space", "nms_thresh=0.3,0.5", "--", "extract", "photos"],
    ),
    "convert": ("vlray.formats.command", "_convert", ["a.tsv", "out"]),
    "compare": ("vlray.comparison.command", "compare", ["a", "b"]),
    "view": ("vlray.gallery.command", "open_output", ["out"]),
    "pipeline": ("vlray.pipelines.command", "run_steps", ["story.yaml"]),
    "datasets": ("vlray.tasks.report", "catalogue_table", ["list"]),
    "logs": ("vlray.runs.command", "_list", ["--list"]),
    "env": ("vlray.env", "_show", []),
    "demo": ("vlray.demo", "copy_photos", []),
}
"""What each command calls for its work, and arguments that lead there."""

WITHOUT_FOLDER = ("datasets", "logs", "env", "demo")

ERRORS = {
    KeyboardInterrupt(): 130,
    SystemExit(15): 130,  # Ray's own handler of SIGTERM, while it starts
    Failed("nothing came out"): 1,
    OSError(errno.ENOSPC, "No space left on device"): 1,
    RuntimeError("boom"): 1,
    AssertionError("a bug"): 1,
    TypeError("a bug"): 1,
    MemoryError(): 1,
    RayTaskError("detect", "", ValueError("raised in a worker")).as_instanceof_cause(): 1,
    ImportError("cannot import name", name="vlray.stream"): 1,
    ModuleNotFoundError("no module h5py", name="h5py"): 2,
    PermissionError(errno.EACCES, "denied"): 2,
    ValueError("out of range"): 2,
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "vlray.json").write_text("{}")
    (tmp_path / "story.yaml").write_text(
        "project: default\nsteps:\n  pages: {command: view, output: out}\n"
    )


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("command", WORK)
def test_every_command_ends_alike(
    command: str,
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module, name, arguments = WORK[command]

    def work(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(importlib.import_module(module), name, work)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(SystemExit) as ending:
        importlib.import_module(f"vlray.{command}").main(arguments)
    assert ending.value.code == ERRORS[error]
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    err = capsys.readouterr().err
    assert "Traceback" not in err
    if ending.value.code == 2:
        assert err.splitlines()[-1] == f"vlray {command}: {error}"
    elif ending.value.code == 130 and command != "logs":
        assert err.splitlines()[-1].startswith("stopped")
        assert "again" in err.splitlines()[-1]
    elif ending.value.code == 1 and not isinstance(error, Failed):
        assert "again" in err.splitlines()[-1]
        assert ("free disk space" in err) == isinstance(error, OSError)
    check_folder(command, ending.value.code)


def check_folder(command: str, status: int) -> None:
    """Check what is left of a run: nothing where it was refused, the traceback where it failed."""
    folders = list(Path("runs").glob("*/*"))
    if command in WITHOUT_FOLDER or status == 2:
        assert not folders
        return
    (folder,) = folders
    (log,) = folder.glob("*.log")
    state = json.loads((folder / "status.json").read_text())["status"]
    assert state == ("stopped" if status == 130 else "failed")
    assert ("Traceback" in log.read_text()) == (status == 1)


def test_a_failure_without_a_run_folder_leaves_its_traceback_in_a_temporary_file(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit), Session("logs"):
        raise RuntimeError("boom")
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "vlray logs failed: RuntimeError: boom"
    path = Path(said[1].removeprefix("The traceback is in "))
    assert path.read_text().endswith("RuntimeError: boom\n")


def test_what_a_worker_raised_is_told_without_rays_wrappers() -> None:
    cause = ValueError("no")
    error = RayTaskError("detect", "", cause).as_instanceof_cause()
    assert isinstance(error, ValueError)
    assert raised_in_worker(error) is cause
    assert not is_mistake(error)
    assert raised_in_worker(cause) is cause


def test_a_full_disk_behind_another_error_is_a_failure() -> None:
    error = ValueError("the part cannot be written")
    assert is_mistake(error)
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert not is_mistake(error)


def test_a_run_on_a_full_disk_fails_in_words(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = LogsConfig.model_validate({"env": {"runs_dir": str(small_disk / "runs")}})

    def work() -> None:
        with Session("extract") as session:
            session.open(config)
            (small_disk / "part").write_bytes(bytes(100_000))

    with pytest.raises(SystemExit) as ending:
        work()
    assert ending.value.code == 1
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert err.count("the log cannot be written") == 1
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "free disk space; run the same command again"


def test_a_detector_that_cannot_be_loaded_is_not_answered_with_the_same_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work() -> None:
        with Session("extract", "run the same command again"):
            raise DetectorError("the detector cannot be loaded")

    with pytest.raises(SystemExit) as ending:
        work()
    assert ending.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1] == DetectorError.advice


def test_an_interrupt_that_was_swallowed_still_stops_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        with Session("extract") as session:
            with suppress(KeyboardInterrupt):  # as the import of a compiled module may do
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1)
            session.open(LogsConfig())

    try:
        with pytest.raises(SystemExit) as ending:
            work()
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert ending.value.code == 130
    assert capsys.readouterr().err == "stopped (SIGTERM); run the same command again\n"
    assert not Path("runs").exists()


IMPORTING = """
import signal, sys, time
from importlib.abc import MetaPathFinder

class Slow(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == sys.argv[2]:
            print("importing", flush=True)
            exec("time.sleep(60)")  # as dataclasses do: Python would end by SIGINT

sys.meta_path.insert(0, Slow())
from vlray import {command}
{command}.main(sys.argv[3:])
"""


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("command", "module"),
    [("extract", "numpy"), ("train", "torch"), ("extract", "pydantic")],
)
def test_a_signal_during_the_imports_stops_the_command(
    command: str, module: str, number: signal.Signals, tmp_path: Path
) -> None:
    code = tmp_path / "importing.py"
    code.write_text(IMPORTING.format(command=command))
    arguments = {"extract": ["photos", "out"], "train": ["vqa-rad:train", "regions", "out"]}
    process = subprocess.Popen(
        [sys.executable, "-m", "importing", "", module, *arguments[command]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert err.startswith("stopped")
    assert "run the same command again" in err
    assert len(err.splitlines()) == 1


@pytest.mark.usefixtures("processes")
@pytest.mark.parametrize(
    ("number", "address", "line"),
    [
        (signal.SIGINT, "local", "loading detectors"),
        (signal.SIGTERM, "local", "loading detectors"),
        (signal.SIGINT, "none", "running in this process"),
        (signal.SIGTERM, "none", "running in this process"),
    ],
)
def test_a_signal_during_an_extraction_stops_it_with_one_sentence(
    number: signal.Signals,
    address: str,
    line: str,
    photos: Path,
    grid_detector: str,
    tmp_path: Path,
) -> None:
    flags = ["--detector.name", grid_detector, "--detector.options", "seconds=30"]
    flags += ["--cluster.address", address, "-v"]
    console = tmp_path / "console.txt"
    with console.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "vlray.extract", str(photos), "new", *flags], stderr=file
        )
    wait_until(lambda: line in console.read_text() or process.poll() is not None, 120)
    time.sleep(1)
    process.send_signal(number)
    assert process.wait() == 130, console.read_text()
    assert console.read_text().splitlines()[-1] == (
        f"stopped{' (SIGTERM)' if number == signal.SIGTERM else ''}; written files are kept; "
        "run the same command again to resume"
    )
    (folder,) = Path("runs/default").iterdir()
    assert json.loads((folder / "status.json").read_text())["status"] == "stopped"
