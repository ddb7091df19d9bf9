"""Options that say where vlray keeps things; every command has them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from vlray.settings.log_format import LogFormat
from vlray.settings.section import Section

Folder = Annotated[Path, AfterValidator(Path.expanduser)]


class EnvironmentSection(Section):
    """Where data and runs are on this machine, and how much is logged."""

    data_dir: Folder = Path()
    """Folder in which relative paths of data are looked up when they are not in the current
    one."""

    runs_dir: Folder = Path("runs")
    """Folder of the run folders; each run writes its settings and its log into one of its own."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much goes into the log."""

    log_format: LogFormat = "text"
    """``json``: each message as an object on a line, on the console and in the log, with its time,
    level, run, project, and the worker and node where it happened."""
