"""Options for data folders, run folders and logging, which every command has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from vlray.settings.log_format import LogFormat
from vlray.settings.section import Section

Level = Literal["debug", "info", "warning", "error"]
Folder = Annotated[Path, AfterValidator(Path.expanduser)]


def _check_local(folder: Any) -> Any:
    if "://" in str(folder):
        raise ValueError("runs need a local folder, for their locks; pass one")
    return folder


class EnvironmentSection(Section):
    """Data folder, run folder and logging."""

    data_dir: Folder = Path()
    """Second folder to search for relative paths of data, after the current folder."""

    runs_dir: Annotated[Folder, BeforeValidator(_check_local)] = Path("runs")
    """Folder of all runs. Each run gets a subfolder with its settings and its log."""

    log_level: Level = "info"
    """Minimum level of logged messages. ``-v``: debug."""

    console_level: Level | Literal[""] = ""
    """Minimum level of messages on the console, if it is higher than that of the log. Above
    ``info``, there is no progress display. ``-q``: warning."""

    log_format: LogFormat = "text"
    """Format of messages, on the console and in the log. ``json``: one object per line with time,
    level, project, run, worker and node."""
