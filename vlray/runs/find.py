"""Runs by what a user calls them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlray.runs.run import Run, is_run
from vlray.settings.wording import did_you_mean

LAST = "last"
NAMED = 3
"""Runs that an error names."""


def projects(runs_dir: Path) -> list[str]:
    """List the projects that have runs."""
    if not runs_dir.is_dir():
        return []
    return sorted(
        folder.name
        for folder in runs_dir.iterdir()
        if folder.is_dir() and any(map(is_run, folder.iterdir()))
    )


def runs_of(runs_dir: Path, names: Sequence[str]) -> list[Run]:
    """List the runs of some projects, the last one last."""
    folders = [runs_dir / name for name in names]
    runs = [
        Run(path)
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if is_run(path)
    ]
    return sorted(runs, key=lambda run: run.order)


def find(given: str, runs: Sequence[Run], runs_dir: Path) -> Run:
    """Find a run.

    Args:
        given: Its folder, its name, the beginning of its name, or ``last``.
        runs: Those to look among, the last one last.
        runs_dir: Folders may also be given below this one: ``PROJECT/NAME``.

    Raises:
        ValueError: None is called so; the nearest names are told.
    """
    for folder in (Path(given), runs_dir / given):
        if is_run(folder):
            return Run(folder)
    if given == LAST and runs:
        return runs[-1]
    exact = [run for run in runs if run.name == given]
    meant = exact or [run for run in runs if run.name.startswith(given)]
    if meant:
        return meant[-1]
    hint = did_you_mean(given, [run.name for run in runs], NAMED, cutoff=0.4)
    raise ValueError(f"there is no run {given!r} here; {hint}`vlray logs` lists them")
