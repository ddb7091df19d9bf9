"""The inputs of a run, and the command that repeats the run."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from vlray.runs.run import Run
from vlray.settings.code import untrusted
from vlray.settings.commands import COMMANDS, settings_of
from vlray.settings.layers import Layer, read_yaml
from vlray.settings.options import flatten

WIDTH = 100
"""Maximum width of a one-line command, in columns."""
ABOUT = 28
"""Maximum width of the inputs in a table, in columns."""


def command_of(run: Run, width: int = WIDTH) -> str:
    """Return a shell command that repeats a run.

    This is the command line that the user typed. The command reads the saved ``settings.yaml``
    instead if vlray was called from another program (a notebook, the demo), or if the working
    directory of the run no longer exists, for example after a Ray job.

    Args:
        run: The run.
        width: Maximum columns of a one-line command; a longer one is split at flags. 0: no limit.
    """
    words = _called(run.status.get("argv") or [], run.command)
    if not words:
        words = _with_settings(run)
    folder = run.status.get("cwd", "")
    if folder and not Path(folder).is_dir():
        words = _with_settings(run)
        # The shell ignores the comment.
        return f"{shlex.join(words)}  # {folder}, where relative paths began, no longer exists"
    lines = [f"cd {shlex.quote(folder)} &&"] if folder else []
    whole = shlex.join(words)
    if not width or len(whole) <= width:
        return " ".join([*lines, whole])
    return " \\\n  ".join([*lines, *_by_flag(words)])


def _with_settings(run: Run) -> list[str]:
    """Return the command that reads a run's settings, and trusts the classes that they name."""
    path = run.folder.absolute() / "settings.yaml"
    words = ["vlray", run.command, "--config", str(path)]
    if run.command in COMMANDS and path.is_file():
        with contextlib.suppress(ValueError):  # a damaged file
            layer = Layer("key", flatten(read_yaml(path)), str(path))
            if any(untrusted(settings_of(run.command), [layer])):
                words.append("--trust-code")
    return words


def _called(argv: Sequence[str], command: str) -> list[str]:
    """Replace the interpreter's path in a command line; return [] if it does not call vlray."""
    words = list(argv)
    if "-m" in words:  # `python -m vlray.extract` or `python -m vlray extract`
        words = words[words.index("-m") + 1 :]
        if words[:1] == [f"vlray.{command}"] or words[:2] == ["vlray", command]:
            return ["python", "-m", *words]
    for at in range(min(2, len(words) - 1)):  # argv may begin with the interpreter
        if words[at].endswith("/vlray") and words[at + 1] == command:
            return ["vlray", *words[at + 1 :]]
    return []


def _by_flag(words: Sequence[str]) -> list[str]:
    """Split a command into lines, with a new line before each flag."""
    lines: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--") and len(word) > len("--"):
            lines.append([])
        lines[-1].append(word)
    return [shlex.join(line) for line in lines]


def inputs_of(run: Run) -> str:
    """Return the positional arguments of a run, each shortened to the last part of its path."""
    if run.command not in COMMANDS:
        return ""
    try:
        changed = flatten(read_yaml(run.folder / "changed.yaml"))
    except (ValueError, OSError):
        return ""
    options = settings_of(run.command).positionals.values()
    values = (changed.get(tuple(option.split("."))) for option in options)
    words = " ".join(_short(value) for value in values if value)
    return words if len(words) <= ABOUT else f"{words[: ABOUT - 1]}\u2026"


def _short(value: object) -> str:
    """Return the last part of a path, or the last parts of several paths, joined by commas."""
    values = value if isinstance(value, list) else [value]
    return ",".join(str(one).rstrip("/").rpartition("/")[2] for one in values)
