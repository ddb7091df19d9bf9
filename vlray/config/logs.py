"""Settings of ``vlray logs``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vlray.settings.base import Command


class LogsConfig(Command):
    """List the runs of a project, or show the log of one run."""

    command: ClassVar[str] = "logs"
    positionals: ClassVar[dict[str, str]] = {"RUN": "run"}
    # ``command`` itself is taken: it is the name of every command's class.
    aliases: ClassVar[dict[str, str]] = {"command": "show-command"}
    examples: ClassVar[tuple[str, ...]] = (
        "",
        "--follow",
        "last --follow",
        "train-20261124-201500 --lines 50",
        "train --command",
        "train --list --project nlvr2",
        "--all-projects",
    )
    notes: ClassVar[str] = """\
states of a run:
  running   The run is active.
  finished  The run is complete.
  stopped   The run was interrupted (Ctrl-C, SIGTERM) or killed. Most commands resume when you run
            them again.
  failed    The run ended with an error; see the last lines of its log. Commands with invalid
            options leave no run.
  unknown   The end is not recorded: the run is on another host, or an old vlray wrote it."""

    run: str = ""
    """Folder or name of a run, the beginning of its name (``train``: the last training), or
    ``last``. Empty: list all runs; with ``--follow``: the last run."""

    follow: bool = False
    """Keep showing new lines until the run ends, or Ctrl-C."""

    lines: Annotated[int, Field(ge=0)] = 20
    """Number of lines to show from the end of the log. 0: the whole log."""

    show_command: bool = False
    """Print the command that repeats the run, instead of its log. Short: ``--command``."""

    list: bool = False
    """List runs. With RUN: only the runs whose name begins with it."""

    all_projects: bool = False
    """Include the runs of all projects."""
