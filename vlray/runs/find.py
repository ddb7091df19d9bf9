"""Search for runs by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlray.runs.run import Run, is_run
from vlray.settings.wording import did_you_mean

LAST = "last"
NAMED = 3
"""Maximum number of similar runs that an error lists."""


def projects(runs_dir: Path) -> list[str]:
    """Return the sorted names of the projects that have runs."""
    if not runs_dir.is_dir():
        return []
    return sorted(
        folder.name
        for folder in runs_dir.iterdir()
        if folder.is_dir() and any(map(is_run, folder.iterdir()))
    )


def runs_of(runs_dir: Path, names: Sequence[str]) -> list[Run]:
    """Return the runs of the given projects, latest last."""
    folders = [runs_dir / name for name in names]
    runs = [
        Run(path)
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if is_run(path)
    ]
    return sorted(runs, key=lambda run: run.order)


def find(name: str, runs: Sequence[Run], runs_dir: Path) -> Run:
    """Find a run by its folder or name.

    Args:
        name: Folder or name of the run, the beginning of its name, or ``last``.
        runs: The runs to search, latest last.
        runs_dir: Second folder to search for a relative path, so that ``PROJECT/NAME`` works.

    Raises:
        ValueError: No run matches; the message lists similar names.
    """
    for folder in (Path(name), runs_dir / name):
        if is_run(folder):
            return Run(folder)
    if name == LAST and runs:
        return runs[-1]
    # An exact name takes precedence over names that begin with it, such as NAME-2.
    exact = [run for run in runs if run.name == name]
    matches = exact or [run for run in runs if run.name.startswith(name)]
    if matches:
        return matches[-1]
    hint = did_you_mean(name, [run.name for run in runs], NAMED, cutoff=0.4)
    raise ValueError(f"unknown run {name!r}; {hint}`vlray logs` lists the runs")
