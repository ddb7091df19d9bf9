"""Relative outputs in a job of ``ray job submit``, whose working directory Ray deletes later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PACKAGE = "_ray_pkg_"
"""Beginning of the name of Ray's copy of a job's working directory."""

OUTPUTS = (("output",), ("output", "path"), ("page",), ("report",))
"""Options with the path of an output, of all commands."""


def check_outputs(values: Mapping[tuple[str, ...], object], folder: Path) -> None:
    """Refuse relative outputs in Ray's copy of a working directory.

    Args:
        values: Options by their paths.
        folder: The working directory of this process.

    Raises:
        ValueError: An output would be written into Ray's copy.
    """
    if not any(part.startswith(PACKAGE) for part in folder.parts):
        return
    for option in OUTPUTS:
        value = values.get(option)
        # An empty option is not a path yet: the default folder is chosen later.
        if not isinstance(value, str | Path) or not str(value) or "://" in str(value):
            continue
        if not Path(value).expanduser().is_absolute():
            raise ValueError(
                f"{'.'.join(option)} {str(value)!r} is relative to {folder}, which is Ray's copy "
                "of the job's working directory and is deleted later; pass an absolute path that "
                f"all nodes can reach, such as {Path.home() / value}"
            )
