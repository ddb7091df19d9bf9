"""Run vlray's public commands as a user does, and watch their processes meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

Watch = Callable[[psutil.Process, float], None]


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    seconds: float
    cpu_seconds: float  # of it and of those of its children that it waited for
    peak_rss: int  # of its own process, bytes
    began: float  # as time.time() counts
    output: str


def extract_command(images: Path, out: Path, *flags: str) -> list[str]:
    """Give the arguments of ``vlray extract`` on a local cluster of its own."""
    runs = str(out.parent / "runs")
    fixed = ["--cluster.address", "local", "--env.runs-dir", runs]
    return [sys.executable, "-m", "vlray.extract", str(images), str(out), *fixed, *flags]


def shown(command: list[str]) -> list[str]:
    """Shorten a command to what a reader wants to know of it."""
    return ["python", *command[1:]]


def environment(home: Path) -> dict[str, str]:
    """Give the environment of a user without settings of their own.

    Where Python may not keep its bytecode, every start compiles all that it imports; no user's
    machine is so.
    """
    left_out = ("VLRAY_", "RAY_", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return kept | {"VLRAY_HOME": str(home), "RAY_AUTH_MODE": "disabled"}


def run(
    command: list[str], home: Path, watch: Watch | None = None, every: float = 0.02
) -> Finished:
    """Run a command to its end.

    Args:
        command: Its arguments.
        home: Where it finds no settings, and where its words are kept.
        watch: Called again and again with the process and the seconds since its start.
        every: Seconds between two calls.

    Raises:
        RuntimeError: The command failed; its last words are given.
    """
    words = home / "words.txt"
    peak = 0
    with words.open("wb") as log:
        wall, began, cpu = time.time(), time.perf_counter(), _cpu_seconds()
        process = subprocess.Popen(command, env=environment(home), stdout=log, stderr=log)
        watched = psutil.Process(process.pid)
        try:
            while process.poll() is None:
                peak = max(peak, peak_rss(watched))
                if watch is not None:
                    watch(watched, time.perf_counter() - began)
                time.sleep(every)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)
        seconds = time.perf_counter() - began
    output = words.read_text(errors="replace")
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}:\n{output[-4000:]}")
    return Finished(seconds, _cpu_seconds() - cpu, peak, wall, output)


def peak_rss(process: psutil.Process) -> int:
    """Give the most resident memory that a process has had, bytes.

    Not ``ru_maxrss``: to that, Linux adds up what the parent had when it began the process.
    """
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        pass
    try:  # no Linux, or the process has just ended
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _cpu_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system
