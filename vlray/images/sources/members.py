"""Members of archives of every kind: list them, and read the bytes of one."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING

from vlray.images.decode import ImageError
from vlray.images.sources import rows, tars, zips
from vlray.images.sources.entry import BROKEN, Entry, archive_kind, split_member
from vlray.images.sources.handles import look_again, open_handle
from vlray.images.sources.names import NameFilter
from vlray.storage import files, fingerprint
from vlray.storage.fingerprint import Fingerprint

if TYPE_CHECKING:
    import pyarrow.fs as pafs

THREADS = 8  # archives listed at the same time; they mostly wait for storage

_READERS = {"tar": tars.read, "zip": zips.read, "parquet": rows.read}


def list_members(
    root: str,
    archives: Sequence[tuple[str, Fingerprint]],
    names: NameFilter,
    id_column: str = "",
) -> Iterator[Entry]:
    """Yield the images in archives, which are listed in parallel.

    Args:
        root: Folder or URI that the paths of the archives are relative to.
        archives: Path and fingerprint of each archive.
        names: Selects and counts the names of the members.
        id_column: Column of Parquet files with the ids; see `vlray.images.sources.rows.entries`.

    Raises:
        OSError: An archive is unreadable.
        ValueError: A Parquet file has no images.
    """
    with ThreadPoolExecutor(min(THREADS, len(archives) or 1)) as pool:
        # Counts that threads share would be lost, so each archive has its own.
        filters = [names.fork() for _ in archives]
        jobs = [
            pool.submit(_listed, root, *archive, some, id_column)
            for archive, some in zip(archives, filters, strict=True)
        ]
        for job, some in zip(jobs, filters, strict=True):
            yield from job.result()
            names.join(some)


def _listed(
    root: str, archive: str, print_of: Fingerprint, names: NameFilter, id_column: str
) -> list[Entry]:
    fs, path = files.locate(root, archive)
    kind = archive_kind(archive)
    with files.explained(archive), fs.open_input_file(path) as stream:
        if kind == "parquet":
            return list(rows.entries(stream, archive, print_of, id_column))
        if kind == "zip":
            return list(zips.entries(stream, archive, print_of, names))
        if kind == "tar.gz":
            with gzip.GzipFile(fileobj=stream) as unpacked:
                return list(tars.entries(unpacked, archive, print_of, names))
        return list(tars.entries(stream, archive, print_of, names))


def read_member(fs: pafs.FileSystem, archive: str, place: str, max_bytes: int = 0) -> bytes:
    """Return the bytes of a member: one request to object storage.

    Before a group of reads, `vlray.images.sources.handles.look_again` has to be called.

    Args:
        fs: Filesystem of the archive.
        archive: Path of the archive on it.
        place: Place of the member, from its `Entry`.
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
    return _READERS[kind](open_handle(fs, archive), place)


def _size(place: str) -> int:
    """Return the larger of a member's sizes in the archive and unpacked; 0: unknown."""
    kind, *numbers = place.split(" ")
    if kind == "tar":
        return int(numbers[1])
    return max(int(numbers[1]), int(numbers[3])) if kind == "zip" else 0


def read_image(root: str, path: str, place: str | None = None) -> bytes:
    """Return the bytes of an image of a listing.

    Args:
        root: Folder or URI that relative paths start from.
        path: Path of the file or member.
        place: Place of a member, from its `Entry`. None: `path` is a file, or a member that is
            looked for.

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
    found = _listed(root, archive, print_of, NameFilter(), "")
    return {split_member(entry.path)[1]: entry.place or "" for entry in found}
