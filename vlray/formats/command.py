"""Run ``vlray convert``: choose import or export, and log a summary."""

from __future__ import annotations

import logging

from vlray.config.convert import ConvertConfig
from vlray.formats.exporting import export_output
from vlray.formats.importing import import_file
from vlray.formats.report import report
from vlray.regions import parts
from vlray.runs.session import Failed, Session
from vlray.storage import files

log = logging.getLogger("vlray.formats")


def run(config: ConvertConfig, session: Session) -> None:
    """Run the conversion, then log a summary and the next command.

    Raises:
        Failed: Every image failed.
    """
    folder = session.open(config)
    log.info("settings and log of this run: %s", folder.path)
    lines, is_empty = _convert(config)
    folder.note(lines[0])
    for line in lines:
        log.info("%s", line)
    if is_empty:
        raise Failed("no image could be converted; failures/ in OUT lists the reasons")


def _convert(config: ConvertConfig) -> tuple[list[str], bool]:
    """Import or export; return the summary lines, and whether every image failed."""
    if _is_output(config.source):
        return export_output(config).lines(), False
    result = import_file(config)
    return report(result), bool(result.failed and not result.images + result.existing)


def _is_output(source: str) -> bool:
    """Return whether a source is a vlray output rather than another tool's file.

    Raises:
        FileNotFoundError: The source does not exist.
        ValueError: The source is remote, but is not a vlray output.
    """
    fs, path = files.resolve(source)
    from pyarrow.fs import FileType

    with files.explained(source):
        entry, settings = fs.get_file_info([path, files.join(path, parts.SETTINGS)])
    if settings.type == FileType.File:
        return True
    if entry.type == FileType.NotFound:
        raise FileNotFoundError(
            f"{source} does not exist; pass a file or folder with region features"
        )
    # Readers need local files.
    if not files.is_local(fs):
        raise ValueError(
            f"{source} is remote but not a vlray output; copy files from other tools to a local "
            "disk before importing them"
        )
    return False
