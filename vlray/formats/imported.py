"""Import other tools' region files for the time of one command."""

from __future__ import annotations

import contextlib
import logging
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pyarrow.fs import FileType

from vlray.config.convert import ConvertConfig
from vlray.formats.importing import import_file
from vlray.formats.lookup import recognize
from vlray.formats.report import report
from vlray.regions import parts
from vlray.storage import files

log = logging.getLogger("vlray.formats")


@contextlib.contextmanager
def imported(
    sources: Mapping[str, str], *, trust_pickle: bool, images: str, sizes: str, id_rule: str
) -> Iterator[dict[str, str]]:
    """Import those sources that are files of other tools into a temporary folder.

    Args:
        sources: Letter of each source for messages, and its path or URI.
        trust_pickle: As the option of ``vlray convert``, like the following ones.
        images: Folder, list or URI of the photographs.
        sizes: File with the sizes of the images.
        id_rule: Rule that turns ids in the files into image ids.

    Yields:
        The outputs of the sources that were imported, by source.

    Raises:
        ValueError: The format of a source is unknown, or it cannot be imported.
    """
    with tempfile.TemporaryDirectory(prefix="vlray-imported-") as folder:
        outputs: dict[str, str] = {}
        for letter, source in sources.items():
            if source in outputs or not _is_foreign(source):
                continue
            try:
                name = recognize(Path(source).expanduser())
                log.info(
                    "%s: importing %s (%s) for this command; to keep it: vlray convert %s OUT",
                    *(letter, source, name, shlex.quote(source)),
                )
                outputs[source] = str(Path(folder) / letter)
                config = ConvertConfig(
                    source=source,
                    output=outputs[source],
                    format=name,
                    trust_pickle=trust_pickle,
                    images=images,
                    sizes=sizes,
                    id_rule=id_rule,
                    dtype="float32",  # rounding would count as a difference
                )
                for line in report(import_file(config))[:-1]:
                    log.info("%s: %s", letter, line)
            except ValueError as error:
                raise ValueError(f"{letter}: {error}") from error
        yield outputs


def _is_foreign(source: str) -> bool:
    """Return whether a source exists on a local disk and is not a vlray output."""
    fs, path = files.resolve(source)
    if not files.is_local(fs):
        return False
    entry, settings = fs.get_file_info([path, files.join(path, parts.SETTINGS)])
    return bool(entry.type != FileType.NotFound and settings.type != FileType.File)
