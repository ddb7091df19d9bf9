"""Suppression of Ray's own console output: logger levels, and one harmless error line."""

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
"""Part of an error line that Ray's core prints for every actor pool of Ray Data. The line warns
that an actor cannot restart if its constructor's arguments are lost, but Ray Data keeps them."""

_HARMLESS_LINE = re.compile(rb"\[\d{4}-[^\n]*" + re.escape(HARMLESS.encode()) + rb"[^\n]*\n")


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
def without_harmless_line() -> Iterator[None]:
    """Drop lines with `HARMLESS` from standard error; all other output passes without delay.

    Ray's core writes to file descriptor 2, which neither logging nor ``sys.stderr`` controls, so
    the descriptor is redirected through a pipe. Use this context only while actors start.
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
        os.dup2(console, 2)  # closes the last writer of the pipe, so that the thread ends
        pump.join(timeout=1.0)  # a child process may have inherited the pipe and keep it open


def _copy(reading: int, console: int) -> None:
    # The core writes each line in one piece, so two reads do not split a line.
    with contextlib.suppress(OSError):
        while chunk := os.read(reading, 65_536):
            os.write(console, _HARMLESS_LINE.sub(b"", chunk))
    os.close(reading)
    os.close(console)
