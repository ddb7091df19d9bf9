"""Members of archives of every kind: list them, and read the bytes of one."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from vlray.images.decode import ImageError
from vlray.images.sources import rows, tars, zips
from vlray.images.sources.entry import BROKEN, archive_kind, split_member, to_table
from vlray.images.sources.handles import look_again, open_handle
from vlray.images.sources.known import Archive, Members
from vlray.images.sources.names import NameFilter
from vlray.storage import files, fingerprint
from vlray.storage.fingerprint import Fingerprint

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.fs as pafs

THREADS = 8  # archives listed at the same time; they mostly wait for storage

_READERS = {tars.KIND: tars.read, tars.PACKED: tars.read, "zip": zips.read, "parquet": rows.read}
_MAGIC = {
    "zip": (0, b"PK"),
    "parquet": (0, b"PAR1"),
    tars.PACKED: (0, b"\x1f\x8b"),
    tars.KIND: (257, b"ustar"),
}


def list_members(
    root: str,
    archives: Sequence[Archive],
    names: NameFilter,
    id_column: str = "",
    known: Mapping[Archive, Members] = MappingProxyType({}),
) -> dict[Archive, Members]:
    """List the images in archives, several archives at the same time.

    Parquet files without image bytes are skipped, because img2dataset writes one beside each tar.

    Args:
        root: Folder or URI that the paths of the archives are relative to.
        archives: Path and fingerprint of each archive.
        names: Selects the names of the members, and counts the others.
        id_column: Column of Parquet files with the ids; see `vlray.images.sources.rows.entries`.
        known: Archives that need not be listed again.

    Raises:
        OSError: An archive is unreadable.
        ValueError: All archives are Parquet files without images.
    """
    new = [one for one in archives if one not in known]
    with ThreadPoolExecutor(min(THREADS, len(new) or 1)) as pool:
        jobs = [pool.submit(_listed, root, *one, names.fork(), id_column) for one in new]
    found = dict(known)
    problem: rows.NoImagesError | None = None
    for one, job in zip(new, jobs, strict=True):
        try:
            found[one] = job.result()
        except rows.NoImagesError as error:
            problem = problem or error
            names.skipped[".parquet"] += 1
    found = {one: found[one] for one in archives if one in found}
    if problem and not found:
        raise problem
    for members in found.values():
        names.skipped += members.skipped
        names.excluded += members.excluded
    return found


def _listed(
    root: str, archive: str, print_of: Fingerprint, names: NameFilter, id_column: str
) -> Members:
    fs, path = files.locate(root, archive)
    with files.explained(archive), fs.open_input_file(path) as stream:
        kind = _content_kind(stream) or archive_kind(archive)
        if kind == "parquet":
            entries = rows.entries(stream, archive, print_of, id_column)
        elif kind == "zip":
            entries = zips.entries(stream, archive, print_of, names)
        elif kind == tars.PACKED:
            entries = tars.entries(gzip.GzipFile(fileobj=stream), archive, print_of, names)
        else:
            entries = tars.entries(stream, archive, print_of, names)
        return Members(to_table(entries), names.skipped, names.excluded)


def _content_kind(stream: pa.NativeFile) -> str:
    """Return the kind of an archive by its first bytes, because names may be wrong."""
    begin = stream.read(tarfile.BLOCKSIZE)
    stream.seek(0)
    for kind, (offset, magic) in _MAGIC.items():
        if begin[offset : offset + len(magic)] == magic:
            return kind
    return ""


def read_member(fs: pafs.FileSystem, archive: str, place: str, max_bytes: int = 0) -> bytes:
    """Return the bytes of a member: one request to object storage.

    Before a group of reads, `vlray.images.sources.handles.look_again` has to be called.

    Args:
        fs: Filesystem of the archive.
        archive: Path of the archive on it.
        place: Place of the member, from its `vlray.images.sources.entry.Entry`.
        max_bytes: Largest member to read; 0: any.

    Raises:
        ImageError: The member is damaged, too large or cannot be read by vlray.
        OSError: The archive cannot be read.
    """
    kind, _, rest = place.partition(" ")
    if kind == BROKEN:
        raise ImageError(rest)
    if kind not in _READERS:
        raise ImageError(f"the plan of the output has an unknown place {place!r}")
    if max_bytes and (size := _size(place)) > max_bytes:
        raise ImageError(
            f"the member has {size:,} bytes, more than the limit of {max_bytes:,} bytes"
        )
    in_order = kind in (tars.PACKED, "parquet")
    with open_handle(fs, archive, is_packed=kind == tars.PACKED, in_order=in_order) as handle:
        return _READERS[kind](handle, place)


def _size(place: str) -> int:
    """Return the larger of a member's sizes in the archive and unpacked; 0: unknown."""
    kind, *numbers = place.split(" ")
    if kind in (tars.KIND, tars.PACKED):
        return int(numbers[1])
    return max(int(numbers[1]), int(numbers[3])) if kind == "zip" else 0


def read_image(root: str, path: str, place: str | None = None) -> bytes:
    """Return the bytes of an image of a listing.

    Args:
        root: Folder or URI that relative paths start from.
        path: Path of the file or member.
        place: Place of a member, from its `vlray.images.sources.entry.Entry`. None: `path` is a
            file, or a member that is looked for.

    Raises:
        ImageError: The member is damaged or cannot be read by vlray.
        OSError: The file or archive is missing or unreadable.
    """
    look_again()
    return _read_image(root, path, place)


def _read_image(root: str, path: str, place: str | None) -> bytes:
    fs, full = files.locate(root, path)
    if place is None:
        try:
            # A file's name may contain "!", so the path is tried as a file first.
            return files.read_bytes(fs, full)
        except FileNotFoundError:
            place = _place_of(root, path)
            if place is None:
                raise
            if not place:
                archive, member = split_member(path)
                raise FileNotFoundError(f"{archive} has no member {member}") from None
    archive, _ = split_member(full)
    return read_member(fs, archive, place)


def digests(root: str, paths: Sequence[str], places: Sequence[str | None]) -> list[str]:
    """Return the content digest of each image; "" for an image that cannot be read.

    Args:
        root: Folder or URI that relative paths start from.
        paths: Paths of the images, from a listing.
        places: For each path, where its bytes are in the archive, as in `Entry.place`; None: the
            path is a file.
    """

    def read(path: str, place: str | None) -> str:
        try:
            return fingerprint.digest(_read_image(root, path, place))
        except (OSError, ImageError):
            return ""

    look_again()
    with ThreadPoolExecutor(fingerprint.THREADS) as pool:
        return list(pool.map(read, paths, places))


def _place_of(root: str, path: str) -> str | None:
    """Return the place of a member that is known by its path only.

    The place is empty if the archive has no such member, and None if there is no archive.

    The members of the last archives are remembered, so that a page of many members lists each
    archive once.
    """
    archive, member = split_member(path)
    if not archive:
        return None
    fs, full = files.locate(root, archive)
    print_of = fingerprint.of_info(fs.get_file_info(full))
    if print_of == fingerprint.ABSENT:
        return None
    return _places(root, archive, print_of).get(member, "")


@lru_cache(maxsize=8)
def _places(root: str, archive: str, print_of: Fingerprint) -> dict[str, str]:
    found = _listed(root, archive, print_of, NameFilter(), "").entries
    names = (split_member(path)[1] for path in found["path"].to_pylist())
    return dict(zip(names, found["place"].to_pylist(), strict=True))
