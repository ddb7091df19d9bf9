"""Run a command in a forked child with limits on time and memory, and judge how it ended."""

from __future__ import annotations

import faulthandler
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS = 60.0
MEMORY = 4 * 2**30  # bytes of address space above those of the parent

GOOD = ("done", "refused", "failed", "stopped")
"""Ends that a user can live with: each has a status of the table in vlray/runs/session.py."""

_STATUSES = {0: "done", 1: "failed", 2: "refused", 130: "stopped"}
_ESCAPED = 99
# A failed command names the exception. These types are bugs: an input caused them.
_BUG = re.compile(
    r" failed: (TypeError|KeyError|IndexError|AttributeError|AssertionError|RecursionError|"
    r"OverflowError|ZeroDivisionError|StopIteration|NameError|struct\.error|error|SystemError|"
    r"Arrow\w+|UnpicklingError|BadZipFile|Exception)"
)
_MEMORY = re.compile(r" failed: (MemoryError|out of memory)|bad_alloc")


@dataclass(frozen=True)
class Outcome:
    """How a command ended: one of `GOOD`, or bug, traceback, memory, crash, hang."""

    kind: str
    text: str
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether the command ended as the table of statuses promises."""
        return self.kind in GOOD


def run(
    main: Callable[[list[str]], None],
    argv: Sequence[str],
    folder: Path,
    seconds: float = SECONDS,
    memory: int = MEMORY,
) -> Outcome:
    """Call ``main(argv)`` in a child whose current folder is ``folder``."""
    console = folder / "console.txt"
    began = time.monotonic()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _in_child(main, list(argv), folder, console, memory)
    status = _wait(child, began + seconds)
    text = console.read_text(errors="replace") if console.exists() else ""
    return Outcome(_judge(status, text), text, time.monotonic() - began)


def _in_child(
    main: Callable[[list[str]], None], argv: list[str], folder: Path, console: Path, memory: int
) -> None:
    code = _ESCAPED
    try:
        os.setsid()
        faulthandler.disable()  # pytest's would report a crash of the child as its own
        output = os.open(console, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        # pytest replaces the streams of the parent.
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)  # as Python does
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(folder)
        sys.argv = [f"vlray {main.__module__}", *argv]
        main(argv)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int, deadline: float) -> int | None:
    """Return the wait status; None: the deadline has passed, and the child was killed."""
    pause = 0.002
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _judge(status: int | None, text: str) -> str:
    if status is None:
        return "hang"
    if os.WIFSIGNALED(status):
        return "crash"
    if "Traceback (most recent call last)" in text:
        return "traceback"
    if _MEMORY.search(text):
        return "memory"
    if _BUG.search(text):
        return "bug"
    return _STATUSES.get(os.WEXITSTATUS(status), "traceback")
