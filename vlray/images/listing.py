"""The images that a source has, as one table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from vlray.images.sources.known import KnownMembers

LISTING = pa.schema(
    [
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("split", pa.string()),
        ("file_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("place", pa.string()),
    ]
)
"""Columns of a listing; ``file_bytes`` and ``mtime_ns`` are the fingerprint of the file, ``place``
is where a member's bytes are in its archive. `vlray.images.sources.entry` describes them."""


@dataclass(frozen=True, eq=False)
class Listing:
    """The images found below a root.

    Attributes:
        root: Folder or URI that the paths are relative to.
        dataset: Name of the directory, or stem of the list file, archive or single image.
        table: One row per image with the schema `LISTING`, sorted by path. Paths from a list file
            may be absolute paths or URIs; ``files.locate(root, path)`` resolves them. Bytes that
            are not UTF-8 are escaped as in ``files.escape_bytes``.
        skipped: Number of non-image files in the directory, keyed by lower-case extension.
        excluded: Number of files and folders, or of lines of a list file, that a pattern leaves
            out.
        unreadable: Folders that cannot be listed, relative to the root.
        archives: Number of archives whose members are listed.
        unread: Archives of a directory that are not listed, because it has image files.
        damaged: Path of each damaged archive, and what is wrong with it.
        members: The members of the archives, for the next listing.
    """

    root: str
    dataset: str
    table: pa.Table
    skipped: Counter[str] = field(default_factory=Counter)
    excluded: int = 0
    unreadable: tuple[str, ...] = ()
    archives: int = 0
    unread: tuple[str, ...] = ()
    damaged: tuple[tuple[str, str], ...] = ()
    members: KnownMembers = field(default_factory=KnownMembers)
