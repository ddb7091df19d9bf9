"""What a run was of, and the command that repeats it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from vlray.runs.run import Run
from vlray.settings.commands import COMMANDS, settings_of
from vlray.settings.layers import read_yaml
from vlray.settings.options import flatten

WIDTH = 100
"""Columns of a command that is written on one line."""
ABOUT = 28
"""Columns that what a run was of may take in a table."""


def command_of(run: Run, width: int = WIDTH) -> str:
    """Write the command that repeats a run, to be pasted into a shell.

    It is what the user called. Where another program called vlray (a notebook, the demo), the
    settings that the run has written repeat it.

    Args:
        run: Which one.
        width: Columns, beyond which it is written on several lines; 0: on one line.
    """
    words = _called(run.status.get("argv") or [], run.command)
    if not words:
        words = ["vlray", run.command, "--config", str(run.folder.absolute() / "settings.yaml")]
    lines = [f"cd {shlex.quote(run.status['cwd'])} &&"] if "cwd" in run.status else []
    whole = shlex.join(words)
    if not width or len(whole) <= width:
        return " ".join([*lines, whole])
    return " \\\n  ".join([*lines, *_by_flag(words)])


def _called(argv: Sequence[str], command: str) -> list[str]:
    """Take what starts Python off; empty: this is not how the command is called."""
    words = list(argv)
    if "-m" in words:
        words = words[words.index("-m") + 1 :]
        if words[:1] == [f"vlray.{command}"] or words[:2] == ["vlray", command]:
            return ["python", "-m", *words]
    for at in range(min(2, len(words) - 1)):  # with or without the interpreter in front
        if words[at].endswith("/vlray") and words[at + 1] == command:
            return ["vlray", *words[at + 1 :]]
    return []


def _by_flag(words: Sequence[str]) -> list[str]:
    """Divide a command in front of each flag."""
    lines: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--") and len(word) > len("--"):
            lines.append([])
        lines[-1].append(word)
    return [shlex.join(line) for line in lines]


def about(run: Run) -> str:
    """Say what a run was of: its arguments without a flag, each without the folders it is in."""
    if run.command not in COMMANDS:
        return ""
    try:
        changed = flatten(read_yaml(run.folder / "changed.yaml"))
    except (ValueError, OSError):
        return ""
    options = settings_of(run.command).positionals.values()
    given = (changed.get(tuple(option.split("."))) for option in options)
    words = " ".join(_short(value) for value in given if value)
    return words if len(words) <= ABOUT else f"{words[: ABOUT - 1]}\u2026"


def _short(value: Any) -> str:
    """Take the folders off that something is in."""
    values = value if isinstance(value, list) else [value]
    return ",".join(str(one).rstrip("/").rpartition("/")[2] for one in values)
