"""Settings of ``vlray logs``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vlray.settings.base import Command


class LogsConfig(Command):
    """List the runs of a project, and show or follow the log of one."""

    command: ClassVar[str] = "logs"
    positionals: ClassVar[dict[str, str]] = {"RUN": "run"}
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
  running   it goes on
  finished  it came to its end
  stopped   Ctrl-C, or killed; where the command can go on, run it again
  failed    an error, which the last lines of its log say; what was refused for a mistake in its
            options leaves no run
  unknown   no word of its end: on another host, or of a vlray before this list"""

    run: str = ""
    """A run: its folder, its name, the beginning of its name (``train``: the last of these), or
    ``last``. Empty: list all of them, or with ``--follow`` the last."""

    follow: bool = False
    """Go on showing what is written until the run has ended, or Ctrl-C."""

    lines: Annotated[int, Field(ge=0)] = 20
    """Last lines of the log to begin with; 0: all of it."""

    show_command: bool = False
    """Write the command that repeats the run, in place of its log."""

    list: bool = False
    """List the runs; of those whose name begins with RUN, where it is given."""

    all_projects: bool = False
    """Look at the runs of all projects."""
