"""What ``vlray convert`` does around the work: the direction, the run's folder, the last words."""

from __future__ import annotations

import logging
import sys

from vlray.config.convert import ConvertConfig
from vlray.formats.exporting import export_output
from vlray.formats.importing import import_file
from vlray.formats.report import report
from vlray.regions import parts
from vlray.runs.folder import open_run
from vlray.storage import files

log = logging.getLogger("vlray.formats")


def run(config: ConvertConfig) -> None:
    """Convert, say what was done and how to go on; a mistake of the user's ends with status 2."""
    with open_run(config, "convert") as folder:
        log.info("settings and log of this run: %s", folder.path)
        try:
            lines, nothing = _convert(config)
        except KeyboardInterrupt:
            log.warning("stopped; run the same command again to finish what is missing")
            sys.exit(130)
        except (ValueError, OSError, ImportError) as error:
            log.debug("where it happened", exc_info=True)
            log.error("vlray convert: %s", error)
            sys.exit(2)
        folder.note(lines[0])
        for line in lines:
            log.info("%s", line)
        if nothing:
            log.error("vlray convert: not one image gave regions")
            sys.exit(1)


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
