"""Settings of ``vlray logs``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from vlray.config.base import Command


class LogsConfig(Command):
    """List the runs of a project, and show or follow the log of one."""

    command: ClassVar[str] = "logs"
    positionals: ClassVar[dict[str, str]] = {"RUN": "run"}
    examples: ClassVar[tuple[str, ...]] = (
        "",
        "last --follow",
        "train-20261124-201500 --lines 50",
        "--list --project nlvr2",
    )

    run: str = ""
    """A run: its folder, its name, the beginning of it (``train``: the last of these), or
    ``last``. Empty: list them."""

    follow: bool = False
    """Go on showing what is written until the run has ended, or Ctrl-C."""

    lines: Annotated[int, Field(ge=0)] = 20
    """Last lines of the log to begin with; 0: all of it."""

    list: bool = False
    """List the runs, also where a run is given."""
