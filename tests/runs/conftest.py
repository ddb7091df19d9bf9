"""Processes that are runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

RUN = """
import logging, sys
from contextlib import closing
from vlray.config.logs import LogsConfig
from vlray.runs.folder import open_run

with closing(open_run(LogsConfig(), "train")) as run:
    print(run.path, flush=True)
    for line in sys.stdin:
        logging.getLogger("vlray").info(line.strip())
"""


class Process:
    """A run of its own process, which logs what it is told to."""

    def __init__(self, cwd: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
        )
        assert self.process.stdout is not None
        self.folder = cwd / self.process.stdout.readline().strip()

    def log(self, message: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        self.process.stdin.write(f"{message}\n")
        self.process.stdin.flush()
        self.process.stderr.readline()  # it is on the console, and so in the log

    def end(self) -> None:
        self.process.communicate()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start_run(tmp_path: Path, processes: None) -> Iterator[Callable[[], Process]]:
    """Start runs in the test's folder; those that still go on at its end are killed."""
    started: list[Process] = []

    def start() -> Process:
        started.append(Process(tmp_path))
        return started[-1]

    yield start
    for process in started:
        if process.process.poll() is None:
            process.kill()
