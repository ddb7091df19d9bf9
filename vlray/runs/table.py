"""The table of runs that ``vlray logs`` prints."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from vlray.runs.repeat import inputs_of
from vlray.runs.run import Run
from vlray.settings.text_table import align

HEADER = ("run", "state", "took", "inputs", "result or last message")


def table(runs: Sequence[Run], *, width: int = 0, with_project: bool = False) -> list[str]:
    """Return the lines of the table. Start times are part of the names of the runs.

    Args:
        runs: The runs, in the order of the lines.
        width: Maximum line length, usually the terminal's; longer lines are cut. 0: no limit.
        with_project: Whether to show names as ``PROJECT/NAME``.
    """
    rows = [HEADER]
    for run in runs:
        with contextlib.suppress(FileNotFoundError):  # a refused run has just removed its folder
            name = f"{run.project}/{run.name}" if with_project else run.name
            result = " ".join(run.result.split())
            rows.append((name, run.state, str(run.took), inputs_of(run), result))
    return [_cut(line, width) if width else line for line in align(rows)]


def _cut(line: str, width: int) -> str:
    """Shorten a line that would wrap."""
    return line if len(line) <= width else f"{line[: width - 1]}\u2026"
