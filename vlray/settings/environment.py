"""Options for data folders, run folders and logging, which every command has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from vlray.settings.log_format import LogFormat
from vlray.settings.section import Section

Folder = Annotated[Path, AfterValidator(Path.expanduser)]


class EnvironmentSection(Section):
    """Data folder, run folder and logging."""

    data_dir: Folder = Path()
    """Second folder to search for relative paths of data, after the current folder."""

    runs_dir: Folder = Path("runs")
    """Folder of all runs. Each run gets a subfolder with its settings and its log."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum level of logged messages."""

    log_format: LogFormat = "text"
    """Format of messages, on the console and in the log. ``json``: one object per line with time,
    level, project, run, worker and node."""
