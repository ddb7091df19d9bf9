"""The runs of a project as a table."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from vlray.runs.repeat import about
from vlray.runs.run import Run
from vlray.settings.text_table import align

HEADER = ("run", "state", "took", "of", "result or last message")


def table(runs: Sequence[Run], *, width: int = 0, with_project: bool = False) -> list[str]:
    """Make the lines of the table; when a run began is in its name.

    Args:
        runs: In the order of the lines.
        width: Columns of the terminal, that the last words are cut to; 0: as they are.
        with_project: Whether names are given with their project.
    """
    rows = [HEADER]
    for run in runs:
        with contextlib.suppress(FileNotFoundError):  # it was refused, and is gone meanwhile
            name = f"{run.project}/{run.name}" if with_project else run.name
            result = " ".join(run.result.split())
            rows.append((name, run.state, str(run.took), about(run), result))
    return [_cut(line, width) if width else line for line in align(rows)]


def _cut(line: str, width: int) -> str:
    """Let no line wrap."""
    return line if len(line) <= width else f"{line[: width - 1]}\u2026"
