"""What a run writes, as it writes it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import BinaryIO

from vlray.runs.run import Run, seek_last_lines

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_BEGIN = 30.0
"""How long a new run may take to begin its log."""


def show(run: Run, lines: int, out: BinaryIO) -> None:
    """Write the last lines of a run's log.

    Args:
        run: Which one.
        lines: How many; 0: all.
        out: Where to.

    Raises:
        ValueError: It has no log.
    """
    with _log_of(run).open("rb") as file:
        seek_last_lines(file, lines)
        shutil.copyfileobj(file, out)
    out.flush()


def follow(run: Run, lines: int, out: BinaryIO) -> Run:
    """Write the last lines of a run's log, then what comes, until the run has ended.

    Args:
        run: Which one; its log may still be missing.
        lines: How many to begin with; 0: all.
        out: Where to.

    Returns:
        The run as it ended.

    Raises:
        ValueError: It has no log, and gets none.
    """
    since = time.monotonic()
    while run.log is None and time.monotonic() - since < SECONDS_TO_BEGIN:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    with _log_of(run).open("rb") as file:
        seek_last_lines(file, lines)
        while True:
            # The state first: what a run writes before its end is then read after it.
            now = Run(run.folder)
            has_ended = now.has_ended
            shutil.copyfileobj(file, out)
            out.flush()
            if has_ended:
                return now
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _log_of(run: Run) -> Path:
    if run.log is None:
        raise ValueError(f"{run.folder} has no log")
    return run.log
