"""What a run leaves behind about itself."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from vlray.config.extract import ExtractConfig
from vlray.runs.folder import open_run
from vlray.settings.reader import from_cli


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_written_settings_repeat_the_run(monkeypatch, tmp_path) -> None:
    (tmp_path / "c.yaml").write_text("detector: {options: {depth: 50, names: [a, b]}}")
    monkeypatch.setenv("VLRAY_CLUSTER__ACTORS", "3")
    args = "photos out --config c.yaml --split train,val --no-follow-symlinks --dtype float32"
    config = from_cli(
        ExtractConfig, [*args.split(), "--id-rule", r"regex:(\d+)", "--name", "d\u00e9j\u00e0"]
    )
    with closing(open_run(config, "extract")) as run:
        pass
    monkeypatch.delenv("VLRAY_CLUSTER__ACTORS")
    again = from_cli(ExtractConfig, ["--config", str(run.path / "settings.yaml")])
    assert again.resolved() == config.resolved()
    assert again.model_copy(update={"config": config.config}) == config


def test_what_differs_from_the_defaults_is_written_by_itself() -> None:
    config = from_cli(ExtractConfig, ["photos", "out", "--max-boxes", "40", "--min-boxes", "36"])
    with closing(open_run(config, "extract")) as run:
        pass
    assert yaml.safe_load((run.path / "changed.yaml").read_text()) == {
        "images": {"root": "photos"},
        "detector": {"max_boxes": 40},
        "output": {"path": "out"},
    }


def test_the_folder_is_named_by_project_command_and_second(tmp_path) -> None:
    args = ["photos", "out", "--project", "nlvr2", "--runs-dir", "kept"]
    config = from_cli(ExtractConfig, args)
    with closing(open_run(config, "extract")) as run:
        logging.getLogger("vlray.somewhere").info("hello %d", 1)
        logging.getLogger("vlray").debug("unheard")
    assert run.path.parent == Path("kept/nlvr2")
    time = re.fullmatch(r"extract-(\d{8}-\d{6})", run.path.name)
    assert time is not None
    assert run.log_path.name == f"nlvr2-extract-{time[1]}.log"
    logging.getLogger("vlray").info("after the run")
    (line,) = run.log_path.read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO hello 1", line)


def test_the_console_shows_plain_messages_on_stderr(capsys) -> None:
    config = from_cli(ExtractConfig, ["photos", "out"])
    with closing(open_run(config, "extract")):
        logging.getLogger("vlray").info("hello")
    assert capsys.readouterr() == ("", "hello\n")


def test_runs_of_one_second_have_folders_of_their_own() -> None:
    config = from_cli(ExtractConfig, ["photos", "out"])

    def make(_: int) -> Path:
        with closing(open_run(config, "extract")) as run:
            return run.path

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(make, range(8)))
    assert len(set(paths)) == 8
    assert all((path / "settings.yaml").is_file() for path in paths)


def test_the_installed_versions_are_written_as_requirements() -> None:
    config = from_cli(ExtractConfig, ["photos", "out"])
    with closing(open_run(config, "extract")) as run:
        pass
    lines = (run.path / "requirements.txt").read_text().splitlines()
    assert f"pydantic=={version('pydantic')}" in lines
    assert lines == sorted(set(lines), key=str.lower)


def status_of(path: Path) -> dict[str, Any]:
    status: dict[str, Any] = json.loads((path / "status.json").read_text())
    return status


def test_a_run_says_who_runs_it_and_how_to_repeat_it() -> None:
    with closing(open_run(from_cli(ExtractConfig, ["photos", "out"]), "extract")) as run:
        status = status_of(run.path)
        assert (status["status"], status["command"]) == ("running", "extract")
        assert (status["pid"], status["host"]) == (os.getpid(), socket.gethostname())
        assert (status["argv"], status["cwd"]) == (sys.orig_argv, str(Path.cwd()))
        assert "ended" not in status
        run.note("5 images")
        assert status_of(run.path) == {**status, "result": "5 images"}
    ended = status_of(run.path)
    assert (ended["status"], ended["result"]) == ("finished", "5 images")
    assert datetime.fromisoformat(ended["ended"]) >= datetime.fromisoformat(ended["started"])


def test_a_run_that_was_refused_leaves_no_folder_and_one_that_did_something_does() -> None:
    def refuse(*made: str) -> Path:
        run = open_run(from_cli(ExtractConfig, ["photos", "out"]), "extract")
        for name in made:
            (run.path / name).touch()
        run.close("failed", is_refused=True)
        return run.path

    assert not refuse().exists()
    kept = refuse("metrics.jsonl")
    assert status_of(kept)["status"] == "failed"


def test_a_traceback_is_in_the_log_and_not_on_the_console(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with closing(open_run(from_cli(ExtractConfig, ["photos", "out"]), "extract")) as run:
        try:
            raise ValueError("no")
        except ValueError:
            logging.getLogger("vlray").exception("it broke")
    assert capsys.readouterr().err == "it broke\n"
    assert run.log_path.read_text().endswith("ValueError: no\n")


def test_json_lines_say_when_where_and_of_which_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    args = ["photos", "out", "--project", "story", "--env.log-format", "json"]
    with closing(open_run(from_cli(ExtractConfig, args), "extract")) as run:
        logging.getLogger("vlray.somewhere").warning("d\u00e9j\u00e0 %d\nvu", 1)
        try:
            raise ValueError("no")
        except ValueError:
            logging.getLogger("vlray").exception("it broke")
    text = run.log_path.read_text(encoding="utf-8")
    assert capsys.readouterr().err == text
    first, second = map(json.loads, text.splitlines())
    assert first["message"] == "d\u00e9j\u00e0 1\nvu"
    assert (first["levelname"], first["name"]) == ("WARNING", "vlray.somewhere")
    assert (first["project"], first["run"]) == ("story", run.name)
    assert (first["process"], first["filename"]) == (os.getpid(), Path(__file__).name)
    when = datetime.strptime(first["asctime"], "%Y-%m-%d %H:%M:%S,%f")
    assert abs(when.timestamp() * 1e9 - first["timestamp_ns"]) < 2e6
    assert second["exc_text"].endswith("ValueError: no")


def test_a_run_whose_folder_was_deleted_ends_like_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with closing(open_run(from_cli(ExtractConfig, ["photos", "out"]), "extract")) as run:
        shutil.rmtree(run.path)
        run.note("5 images")
    assert "status.json cannot be written" in caplog.text


def test_where_no_folder_can_be_made_the_error_names_the_option(tmp_path) -> None:
    (tmp_path / "runs").write_text("a file")
    config = from_cli(ExtractConfig, ["photos", "out", "--env.runs-dir", str(tmp_path / "runs")])
    with pytest.raises(OSError, match=r"^the run folder .*--env\.runs-dir"):
        open_run(config, "extract")
