"""Ray's own console output: levels of its loggers, and the way into the run's log."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vlray.settings.log_format import FILE_ONLY

HARMLESS = "github.com/ray-project/ray/issues/53727"
"""Part of an error line that Ray's core prints for every actor pool of Ray Data. The line warns
that an actor cannot restart if its constructor's arguments are lost, but Ray Data keeps them."""

_CORE_LINE = re.compile(
    rb"(?:"
    rb"\[\d{4}-\d\d-\d\d [\d:,]+ (?P<level>[A-Z]) \d+ \d+\]"  # a message: date, time, level, ids
    rb"|^\*\*\* "  # the title of a stack dump
    rb"|^\S+\(\S*\+0x[0-9a-f]+\) \[0x"  # a line of it: file, function, address
    rb")[^\n]*\n",
    re.MULTILINE,
)
_LEVELS = {
    b"W": logging.WARNING,
    b"E": logging.ERROR,
    b"C": logging.ERROR,
    b"F": logging.CRITICAL,
}
_COLOR = re.compile("\x1b\\[[0-9;]*m")
_RAY_LOGGERS = ("ray", "ray.data", "ray.train", "ray.tune")

log = logging.getLogger("vlray.ray")


@contextmanager
def quiet_loggers(levels: Mapping[str, int]) -> Iterator[None]:
    """Set the levels of loggers, and restore them afterwards.

    Args:
        levels: Logger names, mapped to levels.
    """
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def ray_in_log() -> Iterator[None]:
    """Send what Ray itself writes to standard error to the log file; other output stays.

    Ray's core writes to file descriptor 2, which neither logging nor ``sys.stderr`` controls, so
    the descriptor is redirected through a pipe. Create progress bars before the block: inside it,
    standard error is a pipe, not a terminal.
    """
    with _loggers_in_log(), _core_in_log():
        yield


@contextmanager
def _loggers_in_log() -> Iterator[None]:
    """Take the records of Ray's loggers from their console handlers."""
    handlers = {
        handler
        for name in _RAY_LOGGERS
        for handler in logging.getLogger(name).handlers
        if isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
    }
    for handler in handlers:
        handler.addFilter(_to_log)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_to_log)


def _to_log(record: logging.LogRecord) -> bool:
    """Filter that logs the records of Ray to the file only; other records pass."""
    if record.name.partition(".")[0] != "ray":
        return True
    to_log_file(record.levelno, record.getMessage())
    return False


def to_log_file(level: int, text: str) -> None:
    """Log something that Ray wrote, without showing it on the console."""
    log.log(level, "%s", without_colors(text), extra={FILE_ONLY: True})


def is_core_line(line: str) -> bool:
    """Return whether Ray's core wrote a line."""
    return _CORE_LINE.match(f"{line}\n".encode()) is not None


def without_colors(text: str) -> str:
    """Remove the codes that color a text on a terminal."""
    return _COLOR.sub("", text)


@contextmanager
def _core_in_log() -> Iterator[None]:
    try:
        console = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    pump = threading.Thread(target=_copy, args=(reading, console), daemon=True)
    pump.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(console, 2)  # closes the last writer of the pipe, so that the thread ends
        pump.join(timeout=1.0)  # a child process may have inherited the pipe and keep it open


def _copy(reading: int, console: int) -> None:
    # The core writes each line in one piece, so two reads do not split a line.
    with contextlib.suppress(OSError):
        while chunk := os.read(reading, 65_536):
            os.write(console, _CORE_LINE.sub(_log_line, chunk))
    os.close(reading)
    os.close(console)


def _log_line(match: re.Match[bytes]) -> bytes:
    line = match[0].decode(errors="replace").rstrip()
    if HARMLESS not in line:
        to_log_file(_LEVELS.get(match["level"] or b"", logging.INFO), line)
    return b""
