"""What ``vlray convert`` does around the work: the direction and the summary."""

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
    """Convert, then report what was done and how to go on.

    Raises:
        Failed: Not one image gave regions.
    """
    folder = session.open(config)
    log.info("settings and log of this run: %s", folder.path)
    lines, nothing = _convert(config)
    folder.note(lines[0])
    for line in lines:
        log.info("%s", line)
    if nothing:
        raise Failed("not one image gave regions")


def _convert(config: ConvertConfig) -> tuple[list[str], bool]:
    """Convert in the direction that SOURCE asks for; give the last words, and if all failed."""
    if _is_output(config.source):
        return export_output(config).lines(), False
    result = import_file(config)
    return report(result), bool(result.failed and not result.images + result.there)


def _is_output(source: str) -> bool:
    """Tell an output of vlray from another tool's file.

    Raises:
        FileNotFoundError: There is nothing of this name.
    """
    fs, path = files.resolve(source)
    from pyarrow.fs import FileType

    with files.explained(source):
        here, about = fs.get_file_info([path, files.join(path, parts.SETTINGS)])
    if about.type == FileType.File:
        return True
    if here.type == FileType.NotFound:
        raise FileNotFoundError(f"there is no {source}; give a file or folder of region features")
    if not files.is_local(fs):
        raise ValueError(f"{source} is no output of vlray; other files are read from local disks")
    return False
