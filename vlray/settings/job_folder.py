"""Relative outputs in a job of ``ray job submit``, whose working directory Ray deletes later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

COPIES = "working_dir_files"
"""Folder of Ray that holds its copies of the working directories of jobs."""

RUNS_DIR = ("env", "runs_dir")
OUTPUTS = (("output",), ("output", "path"), ("page",), ("report",), RUNS_DIR)
"""Options with the path of an output, of all commands."""


def is_copy(folder: Path) -> bool:
    """Return whether a folder is in Ray's copy of a job's working directory."""
    return COPIES in folder.parts


def check_outputs(
    values: Mapping[tuple[str, ...], object], folder: Path, command: str = ""
) -> None:
    """Refuse relative outputs in Ray's copy of a working directory.

    The default run folder is relative, too, but accepted: losing a log is no reason to stop a job.

    Args:
        values: Options by their paths. ``env.runs_dir`` only if the user set it.
        folder: The working directory of this process.
        command: Name of the command. Without an output, ``test`` writes into the run folder.

    Raises:
        ValueError: An output would be written into Ray's copy.
    """
    if not is_copy(folder):
        return
    fate = (
        f"{folder}, which is Ray's copy of the job's working directory and is deleted later; pass "
        "an absolute path that all nodes can reach, such as"
    )
    for option in OUTPUTS:
        value = values.get(option)
        # An empty option is not a path yet: the default folder is chosen later.
        if not isinstance(value, str | Path) or not str(value) or "://" in str(value):
            continue
        if not Path(value).expanduser().is_absolute():
            raise ValueError(
                f"{'.'.join(option)} {str(value)!r} is relative to {fate} {Path.home() / value}"
            )
    if values.get(("output",)) == "" and not (command == "test" and RUNS_DIR in values):
        raise ValueError(f"output is not set, so it would be in {fate} {Path.home() / 'out'}")
