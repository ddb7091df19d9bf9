"""A run as its folder tells of it: what it is, since when, whether it still goes on."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal

from vlray.runs.folder import STATUS
from vlray.runs.metrics import METRICS, last_best, say_best
from vlray.settings.log_format import parse_json

State = Literal["running", "finished", "stopped", "failed", "unknown"]

_NAME = re.compile(r"(?P<command>.+)-(?P<time>\d{8}-\d{6})(-(?P<number>\d+))?")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")
"""How a line of a log begins."""

MESSAGE_LINES = 50
"""Lines that a message of a log has at most, in all likelihood."""
BLOCK = 65_536
"""Bytes that are read at a time from a log's end."""


@dataclass(frozen=True)
class Run:
    """A run's folder; what it says is read once, when it is asked for.

    Attributes:
        folder: ``runs/PROJECT/COMMAND-TIME``.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Its name in its project."""
        return self.folder.name

    @property
    def command(self) -> str:
        """The command that it is of."""
        match = _NAME.fullmatch(self.name)
        assert match is not None
        return match["command"]

    @property
    def project(self) -> str:
        """The project that it is of."""
        return self.folder.absolute().parent.name

    @property
    def order(self) -> tuple[str, int, int]:
        """What runs are sorted by: the second in which it began, its number in that second.

        Of several commands of one second: when each wrote its settings.
        """
        match = _NAME.fullmatch(self.name)
        assert match is not None
        settings = self.folder / "settings.yaml"
        wrote = settings.stat().st_mtime_ns if settings.is_file() else 0
        return match["time"], int(match["number"] or 1), wrote

    @property
    def log(self) -> Path | None:
        """Its log; none where it has not begun yet."""
        return next(iter(sorted(self.folder.glob("*.log"))), None)

    @cached_property
    def status(self) -> dict[str, Any]:
        """What it says of itself; empty in a folder of a vlray that did not say it."""
        try:
            status: dict[str, Any] = json.loads((self.folder / STATUS).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return status

    @cached_property
    def state(self) -> State:
        """Whether it goes on, and otherwise how it ended."""
        said: State = self.status.get("status", "unknown")
        if self.log is not None and is_locked(self.log):
            # Processes that it started may hold its lock for a moment after its own last word.
            return said if said in ("finished", "stopped", "failed") else "running"
        if said == "running":
            here = self.status.get("host") == socket.gethostname()
            return "stopped" if here else "unknown"
        return said

    @property
    def has_ended(self) -> bool:
        """Whether it writes no more; not known of a run on another host, so that it may still."""
        return self.state not in ("running", "unknown") or not self.status

    @property
    def started(self) -> datetime:
        """When it began, in the time of its own place."""
        if "started" in self.status:
            return datetime.fromisoformat(self.status["started"])
        return datetime.strptime(self.order[0], "%Y%m%d-%H%M%S").astimezone()

    @property
    def took(self) -> timedelta:
        """How long it took, or takes so far; of a killed one: until its last word."""
        if "ended" in self.status:
            end = datetime.fromisoformat(self.status["ended"])
        elif self.state == "running":
            end = datetime.now().astimezone()
        else:
            last = (self.log or self.folder).stat().st_mtime
            end = datetime.fromtimestamp(last).astimezone()
        return timedelta(seconds=round(max((end - self.started).total_seconds(), 0)))

    @property
    def result(self) -> str:
        """What came out: its own note or best evaluation, otherwise its last message."""
        if self.state != "failed":
            if note := self.status.get("result"):
                return str(note)
            if best := last_best(self.folder / METRICS):
                return f"best {say_best(best)}"
        if self.log is None:
            return ""
        with self.log.open("rb") as file:
            seek_last_lines(file, MESSAGE_LINES)
            lines = file.read().decode(errors="replace").splitlines()
        if said := parse_json(lines[-1] if lines else ""):
            return str(said["message"]).partition("\n")[0]
        begins = [line for line in lines if _STAMP.match(line)] or lines[-1:]
        return _STAMP.sub("", begins[-1]).strip() if begins else ""


def is_run(folder: Path) -> bool:
    """Tell a run's folder from others by its name."""
    return _NAME.fullmatch(folder.name) is not None and folder.is_dir()


def is_locked(log: Path) -> bool:
    """Say whether a process has the log open for writing, by the lock that goes with it."""
    try:
        with log.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def seek_last_lines(file: BinaryIO, count: int) -> None:
    """Go to where the last lines of a file begin.

    Args:
        file: Open for reading.
        count: How many lines; 0: all of them.
    """
    at = file.seek(0, os.SEEK_END)
    tail = b""
    while count and at and tail.count(b"\n") <= count:
        size = min(BLOCK, at)
        at = file.seek(at - size)
        tail = file.read(size) + tail
    # Not splitlines, which also ends lines at the carriage returns of a bar.
    wanted = b"".join(io.BytesIO(tail).readlines()[-count:]) if count else b""
    file.seek(at + len(tail) - len(wanted) if count else 0)
