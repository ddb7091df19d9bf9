"""What a run's folder says of it."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.runs import run as run_module
from vlray.runs.find import find, projects, runs_of
from vlray.runs.repeat import command_of
from vlray.runs.run import Run, seek_last_lines
from vlray.runs.table import table
from vlray.settings.log_format import JsonFormatter

NOW = "2026-11-24T20:15:00+00:00"
LATER = "2026-11-24T21:16:01+00:00"


def make_run(
    folder: Path, *lines: str, level: str = "INFO", status: dict[str, Any] | None = None
) -> Run:
    """Leave a run as it looks when its process is gone."""
    folder.mkdir(parents=True)
    log = [f"2026-11-24 20:15:00,123 {level} {line}\n" for line in lines]
    (folder / f"default-{folder.name}.log").write_text("".join(log))
    if status is not None:
        (folder / "status.json").write_text(json.dumps({"started": NOW, **status}))
    return Run(folder)


def test_a_run_is_running_until_it_ends(start_run: Callable[[], Any]) -> None:
    process = start_run()
    assert Run(process.folder).state == "running"
    assert not Run(process.folder).has_ended
    process.end()
    ended = Run(process.folder)
    assert ended.state == "finished"
    assert ended.has_ended
    assert timedelta() <= ended.took < timedelta(minutes=5)


def test_a_run_that_was_killed_is_stopped_though_it_could_not_say_so(
    start_run: Callable[[], Any],
) -> None:
    process = start_run()
    process.log("step 7 of 9")
    process.kill()
    killed = Run(process.folder)
    assert killed.status["status"] == "running"
    assert killed.state == "stopped"
    assert killed.result == "step 7 of 9"
    assert killed.took < timedelta(minutes=5)


def test_what_runs_on_another_host_is_not_known_to_have_ended(tmp_path: Path) -> None:
    run = make_run(tmp_path / "train-20261124-201500", status={"status": "running", "host": "?"})
    assert run.state == "unknown"
    assert not run.has_ended


def test_a_folder_of_before_there_was_a_status_is_listed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "extract-20261124-201500", "5 images")
    assert (run.state, run.has_ended, run.result) == ("unknown", True, "5 images")
    assert f"{run.started:%Y-%m-%d %H:%M:%S}" == "2026-11-24 20:15:00"


def test_the_result_is_the_note_or_the_best_evaluation_or_the_last_message(tmp_path: Path) -> None:
    def result(status: str, **noted: str) -> str:
        known = {"started": NOW, "ended": LATER, "status": status, **noted}
        (run.folder / "status.json").write_text(json.dumps(known))
        return Run(run.folder).result

    run = make_run(tmp_path / "train-20261124-201500", "settings", "no such file\nthe way out\n- a")
    assert result("finished") == "no such file"
    assert result("finished", result="5 images") == "5 images"
    records = [
        {"step": 1, "kind": "valid", "best": True, "accuracy": 50.0, "loss": 2.0},
        {"step": 2, "kind": "valid", "best": True, "accuracy": 61.25},
        {"step": 3, "kind": "valid", "accuracy": 60.0},
    ]
    (run.folder / "metrics.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
    assert result("finished") == "best accuracy 61.25 at step 2"
    assert result("stopped") == "best accuracy 61.25 at step 2"
    assert result("failed") == "no such file"
    assert Run(run.folder).took == timedelta(hours=1, minutes=1, seconds=1)


@given(
    pieces=st.lists(st.sampled_from([b"a", b"\n", b"bc\n", b"\r", "\u00e9".encode()])),
    count=st.integers(0, 5),
    block=st.integers(1, 8),
)
def test_the_last_lines_are_found_from_the_end(pieces: list[bytes], count: int, block: int) -> None:
    data = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "BLOCK", block)
        file = io.BytesIO(data)
        seek_last_lines(file, count)
        rest = file.read()
    assert data.endswith(rest)
    whole = io.BytesIO(data).readlines()
    assert rest == b"".join(whole[-count:] if count else whole)


def test_a_run_is_found_by_its_folder_its_name_and_their_beginnings(tmp_path: Path) -> None:
    names = ("train-20261124-201500", "train-20261124-201500-2", "view-20261124-201400")
    for name in (*names, "not-a-run"):
        make_run(tmp_path / "mine" / name)
    other = make_run(tmp_path / "other" / "train-20261125-000000")
    runs = runs_of(tmp_path, ["mine"])
    assert [run.name for run in runs] == [names[2], names[0], names[1]]

    def found(given: str) -> str:
        return find(given, runs, tmp_path).name

    assert found("last") == names[1]
    assert found("train") == names[1]
    assert found("view") == names[2]
    assert found(names[0]) == names[0]
    assert found(str(other.folder)) == other.name
    assert found(f"other/{other.name}") == other.name
    with pytest.raises(ValueError, match="did you mean view-20261124-201400"):
        found("vew-20261124-201400")
    with pytest.raises(ValueError, match="unknown run 'x'; `vlray logs` lists the runs"):
        found("x")
    assert projects(tmp_path) == ["mine", "other"]
    assert projects(tmp_path / "nowhere") == []


def test_runs_are_sorted_by_their_time_and_not_by_their_command(tmp_path: Path) -> None:
    late = make_run(tmp_path / "a" / "compare-20261124-201500")
    early = make_run(tmp_path / "b" / "view-20261124-201400")
    tenth = make_run(tmp_path / "b" / "view-20261124-201500-10")
    ninth = make_run(tmp_path / "b" / "view-20261124-201500-9")
    assert runs_of(tmp_path, ["a", "b"]) == [early, late, ninth, tenth]


def test_the_table_says_what_a_run_was_of_and_is_cut_to_the_terminal(tmp_path: Path) -> None:
    ended = {"status": "finished", "ended": LATER}
    run = make_run(tmp_path / "mine" / "train-20261124-201500", "x" * 300, status=ended)
    changed = (
        "corpus: vqa:train,gqa:train\nregions: [/data/a/, 'b=s3://bucket/b']\noutput: out/lx\n"
    )
    (run.folder / "changed.yaml").write_text(changed)
    head, line = table([run])
    assert head.split() == ["run", "state", "took", "inputs", "result", "or", "last", "message"]
    of = "vqa:train,gqa:train a,b lx"
    assert re.split("  +", line) == [run.name, "finished", "1:01:01", of, "x" * 300]
    cut = table([run], width=80)
    assert [len(line) for line in cut] == [80, 80]
    assert cut[1].endswith("\u2026")
    assert table([run], with_project=True)[1].startswith("mine/train-20261124-201500  finished")


def test_a_run_that_is_gone_meanwhile_is_left_out_of_the_table(tmp_path: Path) -> None:
    here = make_run(tmp_path / "view-20261124-201500", status={"status": "finished"})
    gone = Run(tmp_path / "view-20261124-201501")
    assert [line.split()[0] for line in table([here, gone])] == ["run", here.name]


def test_the_last_message_of_a_json_log_is_the_result(tmp_path: Path) -> None:
    run = make_run(tmp_path / "extract-20261124-201500", status={"status": "failed"})
    assert run.log is not None
    said = logging.LogRecord("vlray", logging.ERROR, "a.py", 1, "it broke\nhere", (), None)
    run.log.write_text(f"{JsonFormatter(run='x').format(said)}\n")
    assert run.result == "it broke"


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (
            ["/v/bin/python", "-u", "-m", "vlray.train", "vqa", "a b"],
            "python -m vlray.train vqa 'a b'",
        ),
        (["/v/bin/python3.11", "-m", "vlray", "train", "vqa"], "python -m vlray train vqa"),
        (["/v/bin/python", "/v/bin/vlray", "train", "vqa"], "vlray train vqa"),
        (["/v/bin/vlray", "train", "vqa"], "vlray train vqa"),
    ],
    ids=lambda value: "",
)
def test_the_command_of_a_run_is_what_the_user_called(
    argv: list[str], command: str, tmp_path: Path
) -> None:
    folder = tmp_path / "some where"
    folder.mkdir()
    status = {"argv": argv, "cwd": str(folder)}
    run = make_run(tmp_path / "train-20261124-201500", status=status)
    assert command_of(run, width=0) == f"cd '{folder}' && {command}"


@pytest.mark.parametrize(
    "argv", [["python", "-m", "pytest"], ["python", "-m", "vlray.demo"], ["x/vlray", "view"], []]
)
def test_a_run_within_another_program_is_repeated_by_its_settings(
    argv: list[str], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "train-20261124-201500", status={"argv": argv})
    settings = run.folder / "settings.yaml"
    assert " ".join(command_of(run).split(" \\\n  ")) == f"vlray train --config {settings}"
    settings.write_text("model: {name: own.py:Mine}")
    assert command_of(run, width=0) == f"vlray train --config {settings} --trust-code"


@pytest.mark.usefixtures("processes")
def test_a_long_command_is_divided_at_its_flags_and_means_the_same(tmp_path: Path) -> None:
    words = ["vlray", "extract", "photos of mine", "out", *["--detector.options", '{"a": 1}'] * 4]
    status = {"argv": ["python", "-m", *words], "cwd": str(tmp_path)}
    run = make_run(tmp_path / "extract-20261124-201500", status=status)
    lines = command_of(run).splitlines()
    assert len(lines) == 6
    assert all(line.endswith(" \\") for line in lines[:-1])
    said = command_of(run).replace("python -m vlray", "printf '%s\\n'")
    shown = subprocess.run(["sh", "-c", said], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines() == words[1:]


def test_the_command_of_a_run_names_no_folder_that_is_gone(tmp_path: Path) -> None:
    status = {"cwd": str(tmp_path / "gone"), "command": "extract"}
    argv = ["python", "-m", "vlray.extract", "photos", "out"]
    run = make_run(tmp_path / "extract-20261124-201500", status={**status, "argv": argv})
    assert command_of(run) == (
        f"vlray extract --config {tmp_path}/extract-20261124-201500/settings.yaml"
        f"  # {tmp_path}/gone, where relative paths began, no longer exists"
    )
