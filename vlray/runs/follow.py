"""Show or follow the log of a run."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import BinaryIO

from vlray.runs.run import Run, seek_last_lines

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_BEGIN = 30.0
"""How long to wait for the log of a new run."""


def show(run: Run, lines: int, out: BinaryIO) -> None:
    """Write the last lines of a run's log.

    Args:
        run: The run.
        lines: Number of lines to show; 0: all.
        out: Binary stream to write to.

    Raises:
        ValueError: The run has no log.
    """
    with _log_of(run).open("rb") as file:
        seek_last_lines(file, lines)
        shutil.copyfileobj(file, out)
    out.flush()


def follow(run: Run, lines: int, out: BinaryIO) -> Run:
    """Write the last lines of a run's log, then new lines until the run ends.

    Args:
        run: The run; its log need not exist yet.
        lines: Number of lines to begin with; 0: all.
        out: Binary stream to write to.

    Returns:
        The run with its final status.

    Raises:
        ValueError: The run has no log after `SECONDS_TO_BEGIN`.
    """
    since = time.monotonic()
    # A run creates its folder first and its log a moment later.
    while run.log is None and time.monotonic() - since < SECONDS_TO_BEGIN:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    with _log_of(run).open("rb") as file:
        seek_last_lines(file, lines)
        while True:
            # Read the state before the log, so that the last lines of an ended run are not lost.
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
