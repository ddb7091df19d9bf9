"""Members of archives as an earlier run listed them, kept in one Parquet file.

A run that finds an archive unchanged, by size and time, takes its members from there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from vlray.images.sources.entry import ENTRIES, SEPARATOR
from vlray.storage import files
from vlray.storage.fingerprint import Fingerprint

FILE = "archives.parquet"
"""Name of the file, beside the plan of an output."""

_FORM = 1  # of the entries; another form is listed again
_METADATA = b"vlray"

Archive = tuple[str, Fingerprint]
"""Path of an archive, and its fingerprint."""


class Members(NamedTuple):
    """The images in one archive.

    Attributes:
        entries: Table with the columns `vlray.images.sources.entry.ENTRIES`.
        skipped: Number of members that are no images, keyed by lower-case extension.
        excluded: Number of members that a pattern leaves out.
    """

    entries: pa.Table
    skipped: Counter[str]
    excluded: int


@dataclass(frozen=True, eq=False)
class KnownMembers:
    """The members of some archives.

    Attributes:
        key: Everything else that the entries depend on; see `key_of`.
        archives: The members of each archive.
    """

    key: str = ""
    archives: Mapping[Archive, Members] = field(default_factory=dict)


def key_of(root: str, exclude: Collection[str], id_column: str) -> str:
    """Return a text that differs if entries of the same archives would differ."""
    return json.dumps([_FORM, root, sorted(exclude), id_column])


def load(fs: pafs.FileSystem, path: str) -> KnownMembers:
    """Read what `store` wrote; a missing or damaged file has no members."""
    try:
        with fs.open_input_file(path) as stream:
            table = pq.read_table(stream)
        stored = json.loads((table.schema.metadata or {})[_METADATA])
        archives, begin = {}, 0
        for name, size, time, rows, skipped, excluded in stored["archives"]:
            entries = table.slice(begin, rows).select(ENTRIES.names).cast(ENTRIES)
            archives[name, Fingerprint(size, time)] = Members(entries, Counter(skipped), excluded)
            begin += rows
        return KnownMembers(stored["key"], archives)
    # A cache: whatever is wrong with it, the archives are listed again.
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return KnownMembers()


def store(fs: pafs.FileSystem, path: str, known: KnownMembers) -> None:
    """Write members atomically, unless the file has them already or there are none.

    Archives that may be incomplete are left out: those that are damaged, and those whose
    fingerprint says nothing.
    """
    kept = {one: members for one, members in known.archives.items() if _is_certain(*one, members)}
    about = {
        "key": known.key,
        "archives": [
            [name, *print_of, members.entries.num_rows, members.skipped, members.excluded]
            for (name, print_of), members in kept.items()
        ],
    }
    if not kept or _metadata(fs, path) == about:
        return
    tables = [ENTRIES.empty_table(), *(members.entries for members in kept.values())]
    table = pa.concat_tables(tables).replace_schema_metadata({_METADATA: json.dumps(about)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    files.write_atomic(fs, path, sink.getvalue())


def _metadata(fs: pafs.FileSystem, path: str) -> object:
    try:
        with fs.open_input_file(path) as stream:
            return json.loads((pq.read_schema(stream).metadata or {})[_METADATA])
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None


def _is_certain(archive: str, print_of: Fingerprint, members: Members) -> bool:
    if not print_of.mtime_ns or (print_of.file_bytes or -1) < 0:
        return False
    # The entry of an archive itself is its last one, and stands for damage.
    last = members.entries.slice(members.entries.num_rows - 1)
    return bool(last["path"].to_pylist() != [f"{archive}{SEPARATOR}"])
