"""A run, read from its folder: command, start, state and result."""

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
from vlray.runs.metrics import METRICS, describe_best, last_best
from vlray.settings.log_format import parse_json

State = Literal["running", "finished", "stopped", "failed", "unknown"]

_NAME = re.compile(r"(?P<command>.+)-(?P<time>\d{8}-\d{6})(-(?P<number>\d+))?")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ")
"""Prefix of each message in a text log."""

MESSAGE_LINES = 50
"""Lines to read from the end of a log. If the last message is longer, its last line is shown."""
BLOCK = 65_536
"""Bytes per read from the end of a log."""


@dataclass(frozen=True)
class Run:
    """A finished or active run. The status is read once, on first access.

    Attributes:
        folder: ``runs/PROJECT/COMMAND-TIME``.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Name of the run, unique in its project."""
        return self.folder.name

    @property
    def command(self) -> str:
        """Name of the command."""
        match = _NAME.fullmatch(self.name)
        assert match is not None
        return match["command"]

    @property
    def project(self) -> str:
        """Name of the project."""
        return self.folder.absolute().parent.name

    @property
    def order(self) -> tuple[str, int, int]:
        """Sort key: start time to the second, number within that second, settings file time in ns.

        The last part orders runs of different commands that started in the same second.
        """
        match = _NAME.fullmatch(self.name)
        assert match is not None
        settings = self.folder / "settings.yaml"
        wrote = settings.stat().st_mtime_ns if settings.is_file() else 0
        return match["time"], int(match["number"] or 1), wrote

    @property
    def log(self) -> Path | None:
        """Path of the log; None if the log does not exist yet."""
        return next(iter(sorted(self.folder.glob("*.log"))), None)

    @cached_property
    def status(self) -> dict[str, Any]:
        """Content of ``status.json``; empty if an old vlray wrote the folder."""
        try:
            status: dict[str, Any] = json.loads((self.folder / STATUS).read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return status

    @cached_property
    def state(self) -> State:
        """State of the run: whether it is active, or how it ended."""
        recorded: State = self.status.get("status", "unknown")
        if self.log is not None and is_locked(self.log):
            # Child processes may hold the lock for a moment after the run has recorded its end.
            return recorded if recorded in ("finished", "stopped", "failed") else "running"
        if recorded == "running":
            # No process holds the lock: the run was killed. Locks on other hosts are not visible.
            here = self.status.get("host") == socket.gethostname()
            return "stopped" if here else "unknown"
        return recorded

    @property
    def has_ended(self) -> bool:
        """Whether the run is over. A run on another host with an unknown state counts as active."""
        return self.state not in ("running", "unknown") or not self.status

    @property
    def started(self) -> datetime:
        """Start time, in the time zone of the run."""
        if "started" in self.status:
            return datetime.fromisoformat(self.status["started"])
        return datetime.strptime(self.order[0], "%Y%m%d-%H%M%S").astimezone()

    @property
    def took(self) -> timedelta:
        """Duration so far, or in total; for a killed run, until its last log message."""
        if "ended" in self.status:
            end = datetime.fromisoformat(self.status["ended"])
        elif self.state == "running":
            end = datetime.now().astimezone()
        else:  # killed: nothing recorded the end
            last = (self.log or self.folder).stat().st_mtime
            end = datetime.fromtimestamp(last).astimezone()
        return timedelta(seconds=round(max((end - self.started).total_seconds(), 0)))

    @property
    def result(self) -> str:
        """Result in one line: the run's note, else its best evaluation, else its last message."""
        if self.state != "failed":
            if note := self.status.get("result"):
                return str(note)
            if best := last_best(self.folder / METRICS):
                return f"best {describe_best(best)}"
        if self.log is None:
            return ""
        with self.log.open("rb") as file:
            seek_last_lines(file, MESSAGE_LINES)
            lines = file.read().decode(errors="replace").splitlines()
        if record := parse_json(lines[-1] if lines else ""):
            return str(record["message"]).partition("\n")[0]
        # A message may have several lines, such as a traceback: take its first line.
        begins = [line for line in lines if _STAMP.match(line)] or lines[-1:]
        return _STAMP.sub("", begins[-1]).strip() if begins else ""


def is_run(folder: Path) -> bool:
    """Return whether a folder exists and has the name of a run folder."""
    return _NAME.fullmatch(folder.name) is not None and folder.is_dir()


def is_locked(log: Path) -> bool:
    """Return whether a process holds the lock on a log, as a run does while it is active."""
    try:
        with log.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def seek_last_lines(file: BinaryIO, count: int) -> None:
    """Move a file's position to the beginning of its last lines.

    Args:
        file: Binary file, open for reading.
        count: Number of lines; 0: all.
    """
    at = file.seek(0, os.SEEK_END)
    tail = b""
    while count and at and tail.count(b"\n") <= count:
        size = min(BLOCK, at)
        at = file.seek(at - size)
        tail = file.read(size) + tail
    # Not splitlines, which also splits at the carriage returns of progress bars.
    last = b"".join(io.BytesIO(tail).readlines()[-count:]) if count else b""
    file.seek(at + len(tail) - len(last) if count else 0)
