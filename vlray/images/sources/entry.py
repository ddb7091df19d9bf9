"""One image of a source: its path, name and fingerprint, and where its bytes are in an archive.

The path of a member of an archive is ``ARCHIVE!MEMBER``, such as ``shards/0001.tar!000000012.jpg``;
that of a row of a Parquet file is ``FILE!ROW``. Paths do not show where the bytes are, so an entry
also has a *place*: a short text that is stored in the plan, and that the module of the archive's
kind reads (`vlray.images.sources.tars`, `zips`, `rows`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import pyarrow as pa

from vlray.storage.fingerprint import Fingerprint

SEPARATOR = "!"

_ARCHIVE = re.compile(r"\.(tar|tar\.gz|tgz|zip|parquet)$", re.IGNORECASE)
# Lazy: the first archive in a path is the one to open, even if a member is an archive, too.
_MEMBER = re.compile(r"(.+?\.(?:tar|tar\.gz|tgz|zip|parquet))!(.*)", re.IGNORECASE | re.DOTALL)
_OTHERS = re.compile(r"\.(tar\.(bz2|xz|zst|lz4)|tbz2?|txz|tzst|7z|rar)$", re.IGNORECASE)
_KINDS = {"tgz": "tar.gz"}

BROKEN = "broken"
"""Kind of the place of a member that cannot be read; the rest of the place is the reason."""


AT_ONCE = 1 << 16  # rows converted to Arrow at a time

ENTRIES = pa.schema(
    [
        ("path", pa.string()),
        ("name", pa.string()),
        ("file_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("place", pa.string()),
        ("is_id", pa.bool_()),
    ]
)
"""Columns of a table of entries."""


class Entry(NamedTuple):
    """One image.

    Attributes:
        path: Path that the output stores.
        name: Path that ids and splits are derived from.
        fingerprint: Fingerprint of the file. Of a member of a tar: its size and the time of the
            archive. Of a member of a zip: its size and its CRC-32. Of a row of a Parquet file: 0
            and the time of the file.
        place: Where the bytes are in the archive; None: the path is that of a file.
        is_id: Whether the name is an id from a column, which is not a path.
    """

    path: str
    name: str
    fingerprint: Fingerprint
    place: str | None = None
    is_id: bool = False


def archive_kind(path: str) -> str:
    """Return ``tar``, ``tar.gz``, ``zip`` or ``parquet``; empty if a file is none of these."""
    match = _ARCHIVE.search(path)
    kind = match[1].lower() if match else ""
    return _KINDS.get(kind, kind)


def is_other_archive(path: str) -> bool:
    """Return whether a file has the extension of an archive that vlray does not read."""
    return _OTHERS.search(path) is not None


def archive_stem(path: str) -> str:
    """Return the file name of an archive without its extension."""
    return _ARCHIVE.sub("", path.rpartition("/")[2])


def split_member(path: str) -> tuple[str, str]:
    """Split the path of a member into the path of its archive and its name in the archive.

    Returns:
        The path of the archive and the name of the member; both empty if the path is not that of a
        member.
    """
    match = _MEMBER.fullmatch(path)
    return (match[1], match[2]) if match else ("", "")


def leads_out(name: str) -> bool:
    """Return whether the name of a member leads out of the folder it would be unpacked to."""
    return name.startswith("/") or ".." in name.split("/")


LEADS_OUT = "the name of the member leads out of the archive; write the archive with plain names"


def broken(archive: str, member: str, reason: str, fingerprint: Fingerprint) -> Entry:
    """Return an entry for a member that fails with a reason, or for a damaged archive.

    Args:
        archive: Path of the archive.
        member: Name of the member; empty: the archive itself is damaged, which the summary of a run
            names.
        reason: What is wrong.
        fingerprint: Fingerprint of the archive or member.
    """
    path = f"{archive}{SEPARATOR}{member}"
    return Entry(path, member or archive, fingerprint, f"{BROKEN} {reason}")


def to_table(entries: Iterable[Entry]) -> pa.Table:
    """Build a table of entries with the columns `ENTRIES`.

    It is built batch by batch to hold few Python objects.
    """
    remaining = iter(entries)
    batches = []
    while some := list(islice(remaining, AT_ONCE)):
        paths, names, prints, places, is_id = zip(*some, strict=True)
        columns = [paths, names, *zip(*prints, strict=True), places, is_id]
        arrays = map(pa.array, columns, ENTRIES.types)
        batches.append(pa.record_batch(list(arrays), schema=ENTRIES))
    return pa.Table.from_batches(batches, ENTRIES)


def sorted_table(entries: Iterable[Entry]) -> pa.Table:
    """Build a table of entries, sorted by path."""
    return to_table(entries).sort_by("path").combine_chunks()
