"""What workers say, on its way from their standard error into the run's log."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.deadlines import wait_until
from vlray.cluster import worker_logs as module
from vlray.cluster.worker_logs import forwarded, log_to_stderr
from vlray.config.logs import LogsConfig
from vlray.runs.folder import open_run
from vlray.runs.progress import Bar
from vlray.settings.environment import EnvironmentSection
from vlray.settings.log_format import FILE_ONLY, JsonFormatter

WORDS = "the weights are new"


def speak(options: EnvironmentSection) -> int:
    log_to_stderr(options)
    logger = logging.getLogger("vlray.made_up")
    logger.debug("of no interest")
    logger.warning("%s (%s)", WORDS, options.log_format)
    print("printed", flush=True)
    return os.getpid()


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_words_of_a_worker_keep_their_level_and_are_said_once(
    log_format: Any, caplog: pytest.LogCaptureFixture
) -> None:
    options = EnvironmentSection(log_format=log_format)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers have no tests
    say = ray.remote(num_cpus=0)(speak)
    words = f"{WORDS} ({log_format})"  # of this case: the last one's may still be on their way
    with caplog.at_level(logging.DEBUG, logger="vlray"), forwarded():
        pids = set(ray.get([say.options(name=f"say {n}").remote(options) for n in range(3)]))
        wait_until(
            lambda: {"printed", words} <= {worker(record)["message"] for record in caplog.records},
            failure=lambda: caplog.text,
        )
    (warning,) = [record for record in caplog.records if words in record.getMessage()]
    (printed,) = [record for record in caplog.records if "printed" in record.getMessage()]
    assert (warning.levelname, printed.levelname) == ("WARNING", "INFO")
    assert worker(warning)["process"] in pids
    assert warning.getMessage().startswith(f"pid {worker(warning)['process']} on ")
    assert not [record for record in caplog.records if "of no interest" in record.getMessage()]

    line = json.loads(JsonFormatter(project="p", run="r").format(warning))
    assert (line["message"], line["levelname"], line["project"]) == (words, "WARNING", "p")
    if log_format == "json":
        assert line["name"] == "vlray.made_up"
        assert line["filename"] == "test_log.py"
        assert line["task_name"].startswith("say ")
        assert {"job_id", "worker_id", "node_id", "node_ip", "task_id"} <= line.keys()
        assert "actor_id" not in line


def worker(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = getattr(record, "worker", {"message": ""})
    return found


def test_a_handler_of_the_program_itself_is_left_alone() -> None:
    logger = logging.getLogger("vlray")
    own = logging.NullHandler()
    before, logger.handlers, level = logger.handlers, [own], logger.level
    try:
        log_to_stderr(EnvironmentSection(log_format="json", log_level="error"))
        assert logger.handlers == [own]
        assert (own.formatter, logger.level) == (None, level)
    finally:
        logger.handlers = before


@pytest.mark.parametrize(
    ("line", "level", "message"),
    [
        ("WARNING it is hot", "WARNING", "it is hot"),
        ("ERROR: it is hot", "INFO", "ERROR: it is hot"),
        ("ALL is well", "INFO", "ALL is well"),
        ('{"asctime": "broken', "INFO", '{"asctime": "broken'),
        ('{"asctime": "now"}', "INFO", '{"asctime": "now"}'),
    ],
)
def test_what_is_no_message_of_ours_is_taken_as_it_is(
    line: str, level: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="vlray"):
        forwarder = module._Forwarder()
        forwarder.handle({"pid": "7", "ip": "10.0.0.1", "task_name": "t", "lines": [line]})
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (level, f"pid 7 on 10.0.0.1: {message}")
    assert worker(record)["task_name"] == "t"


def test_only_the_log_gets_what_ray_prints_in_colors(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with closing(open_run(LogsConfig(env=EnvironmentSection(runs_dir=tmp_path)), "extract")) as run:
        lines = [
            "\x1b[36mmine\x1b[39m",
            "[2026-11-29 01:17:31,507 E 1 1] core_worker.cc:1: out of memory",
            "Unhandled error (suppress with 'X'): \x1b[36mray::Journals.call()\x1b[39m",
            "  File journal.py, line 51",
        ]
        module._Forwarder().handle({"pid": "7", "ip": "10.0.0.1", "lines": lines})
    assert capsys.readouterr().err == "pid 7 on 10.0.0.1: mine\n"
    assert "(suppress with 'X'): ray::Journals.call()\n" in run.log_path.read_text()


def test_the_stack_dump_of_a_crash_is_in_the_log_only(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    forwarder = module._Forwarder()
    lines = ["before", "*** SIGABRT received at time=1 on cpu 0 ***", "  File x.py, line 8"]
    with closing(open_run(LogsConfig(env=EnvironmentSection(runs_dir=tmp_path)), "extract")) as run:
        forwarder.handle({"pid": "7", "ip": "10.0.0.1", "lines": [*lines, "WARNING it is hot"]})
        forwarder.handle({"pid": "8", "ip": "10.0.0.1", "lines": ["Fatal Python error: Aborted"]})
        forwarder.handle({"pid": "9", "ip": "10.0.0.1", "lines": ["another"]})
        forwarder.note({"pid": "raylet", "lines": ["A worker died"], "is_err": False})
    said = [line.rpartition(": ")[2] for line in capsys.readouterr().err.splitlines()]
    assert said == ["before", "it is hot", "another"]
    written = run.log_path.read_text()
    for line in (*lines, "Fatal Python error: Aborted", "raylet: A worker died"):
        assert line in written


def test_only_the_log_gets_rays_messages_about_dead_workers(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    message = "A worker died or was killed while executing a task"
    batch = {"lines": [message], "pid": "raylet", "is_err": False, "ip": "10.0.0.1"}
    with caplog.at_level(logging.INFO, logger="vlray"), forwarded():
        ray._private.worker.print_to_stdstream(batch, ignore_prefix=False)
    assert capsys.readouterr().out == ""
    (record,) = caplog.records
    assert (record.getMessage(), getattr(record, FILE_ONLY)) == (f"raylet: {message}", True)
    ray._private.worker.print_to_stdstream(batch, ignore_prefix=False)
    assert message in capsys.readouterr().out  # as before
    before = ray._private.worker.print_to_stdstream
    with forwarded(restores=False):
        pass
    ray._private.worker.print_to_stdstream(batch, ignore_prefix=False)
    assert capsys.readouterr().out == ""  # nothing after the summary of a command
    ray._private.worker.print_to_stdstream = before


@pytest.mark.parametrize(("log_format", "style"), [("text", "bar"), ("json", "lines")])
def test_no_bar_is_drawn_among_lines_of_json(
    log_format: Any,
    style: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    env = EnvironmentSection(runs_dir=tmp_path, log_format=log_format)
    with closing(open_run(LogsConfig(env=env), "extract")), Bar(9, " images", 10.0) as bar:
        assert bar.style == style
        bar.say(logging.getLogger("vlray"), "9/9 images")
    if log_format == "json":
        assert json.loads(capsys.readouterr().err)["message"] == "9/9 images"
