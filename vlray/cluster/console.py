"""Keep Ray quiet on the console while a run lasts, and leave its settings as they were."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

HARMLESS = "github.com/ray-project/ray/issues/53727"
"""Part of an error line that Ray's core prints for every actor pool of Ray Data. It warns that an
actor cannot restart when its constructor's arguments are lost; Ray Data keeps them alive."""

_HARMLESS_LINE = re.compile(rb"\[\d{4}-[^\n]*" + re.escape(HARMLESS.encode()) + rb"[^\n]*\n")


@contextmanager
def quiet_loggers(levels: Mapping[str, int]) -> Iterator[None]:
    """Set the levels of loggers, and restore them afterwards.

    Args:
        levels: Name of a logger to its level.
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
def without_harmless_line() -> Iterator[None]:
    """Drop the line of `HARMLESS` from standard error; everything else passes at once.

    Ray's core writes to file descriptor 2, which neither logging nor ``sys.stderr`` controls, so
    the descriptor leads through a pipe meanwhile. Use it around the start of actors only.
    """
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
        os.dup2(console, 2)  # the pipe has no writer any more, so the thread ends
        pump.join(timeout=1.0)  # unless a process that was started meanwhile still writes to it


def _copy(reading: int, console: int) -> None:
    # The core writes a line in one piece, so no line is cut between two reads.
    with contextlib.suppress(OSError):
        while chunk := os.read(reading, 65_536):
            os.write(console, _HARMLESS_LINE.sub(b"", chunk))
    os.close(reading)
    os.close(console)
