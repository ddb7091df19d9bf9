"""Fingerprints of files, to detect changes since they were read.

A fingerprint is a file's size and modification time. Reading it takes one ``stat`` for a local
file, and only the folder's listing for files in a bucket. ETags are not used: pyarrow's listings
lack them, and one request per object would be slow for a million objects. An object that is written
again has a new time in any case. Where size and time are not enough, compare content with `digest`
or `sample`: copying a file changes its time, and rewriting a file may keep its size.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vlray.storage import files

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

THREADS = 16  # they mostly wait for network storage
CHUNK = 1000  # files per thread job; also the number of objects per listing response

SAMPLED = 64 * 2**20  # bytes at each end that `sample` reads; the middle is not compared
BLOCK = 2**20  # bytes per read


class Fingerprint(NamedTuple):
    """Size in bytes and modification time in ns; both None if they could not be read."""

    file_bytes: int | None
    mtime_ns: int | None


ABSENT = Fingerprint(-1, 0)
"""Fingerprint of a missing file."""

UNKNOWN = Fingerprint(None, None)
"""Fingerprint of an inaccessible file; it never counts as a change."""


def of_stat(status: os.stat_result) -> Fingerprint:
    """Return the fingerprint from an ``os.stat`` result."""
    return Fingerprint(status.st_size, status.st_mtime_ns)


def of_info(info: FileInfo) -> Fingerprint:
    """Return the fingerprint from a pyarrow ``FileInfo``."""
    from pyarrow.fs import FileType

    if info.type == FileType.NotFound:
        return ABSENT
    return Fingerprint(info.size or 0, info.mtime_ns or 0)


def of_file(path: str | os.PathLike[str]) -> Fingerprint:
    """Return the fingerprint of a local file, following links."""
    try:
        return of_stat(os.stat(path))  # noqa: PTH116 - a million Path objects would be slow
    except OSError as error:
        gone = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
        return ABSENT if gone else UNKNOWN


def of_paths(root: str, paths: Sequence[str]) -> list[Fingerprint]:
    """Return the fingerprints of the files in a listing, read in parallel.

    Args:
        root: Folder or URI that relative paths start from.
        paths: Relative paths, absolute paths or URIs.
    """
    fingerprints = [UNKNOWN] * len(paths)
    is_remote = files.is_uri(root)
    local, remote = list[int](), list[int]()
    for index, path in enumerate(paths):
        is_elsewhere = files.is_uri(path) or (is_remote and not path.startswith("/"))
        (remote if is_elsewhere else local).append(index)
    chunks = list(_chunks(local))
    with ThreadPoolExecutor(THREADS) as pool:
        looks = pool.map(lambda chunk: [_of_local(root, paths[i]) for i in chunk], chunks)
        for chunk, some in zip(chunks, looks, strict=True):
            for index, fingerprint in zip(chunk, some, strict=True):
                fingerprints[index] = fingerprint
    for index, fingerprint in _of_remote(root, paths, remote):
        fingerprints[index] = fingerprint
    return fingerprints


def of_tree(uri: str, *, deep: bool = True) -> dict[str, Fingerprint]:
    """Return the fingerprint of a file, or the fingerprints of all files in a folder.

    Args:
        uri: A path or URI.
        deep: Whether to include subfolders.

    Returns:
        Paths on the filesystem mapped to fingerprints, sorted; empty if nothing exists at ``uri``.

    Raises:
        OSError: The storage cannot be reached.
        ValueError: The scheme of the URI is unknown.
    """
    from pyarrow.fs import FileSelector, FileType

    fs, path = files.resolve(uri)
    with files.explained(uri):
        [info] = fs.get_file_info([path])
        infos = [info]
        if info.type == FileType.Directory:
            infos = fs.get_file_info(FileSelector(path, recursive=deep))
    tree = {info.path: of_info(info) for info in infos if info.type == FileType.File}
    return dict(sorted(tree.items()))


def of_folder(fs: FileSystem, folder: str) -> dict[str, Fingerprint]:
    """Map each file name in a folder to its fingerprint; empty if the folder does not exist.

    Raises:
        OSError: The storage cannot be reached.
    """
    from pyarrow.fs import FileSelector

    with files.explained(folder if files.is_local(fs) else f"{fs.type_name}://{folder}"):
        infos = fs.get_file_info(FileSelector(folder, allow_not_found=True))
    return {info.base_name: of_info(info) for info in infos if info.is_file}


def summary(fingerprints: Mapping[str, Fingerprint]) -> str:
    """Return one SHA-256 for the names, sizes and times of files; their order has no effect."""
    lines = sorted(f"{name}\0{size}\0{time}\n" for name, (size, time) in fingerprints.items())
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def sample(paths: Sequence[Path]) -> tuple[str, bool]:
    """Return a digest of the content of local files; for large content, of both ends only.

    Args:
        paths: Files, read as one concatenated file.

    Returns:
        SHA-256 of all sizes and of the first and last `SAMPLED` bytes, and whether these bytes are
        the whole content.

    Raises:
        OSError: A file cannot be read.
    """
    sizes = [path.stat().st_size for path in paths]
    total = sum(sizes)
    content = hashlib.sha256(json.dumps(sizes).encode())
    is_whole = total <= 2 * SAMPLED
    begin = 0  # position of the file in the concatenated content
    for path, size in zip(paths, sizes, strict=True):
        parts = [(0, total)] if is_whole else [(0, SAMPLED), (total - SAMPLED, total)]
        for first, end in parts:
            here, length = max(first - begin, 0), min(end - begin, size)
            if here < length:
                with path.open("rb") as stream:
                    stream.seek(here)
                    while here < length and (block := stream.read(min(BLOCK, length - here))):
                        content.update(block)
                        here += len(block)
        begin += size
    return content.hexdigest(), is_whole


def digest(data: bytes) -> str:
    """Return the BLAKE2b digest of a file's content as 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _of_local(root: str, path: str) -> Fingerprint:
    whole = files.join(root, path)
    fingerprint = of_file(whole)
    # The listing escapes names that are not UTF-8.
    if fingerprint == ABSENT and (restored := files.restore_bytes(whole)) != whole:
        return of_file(restored)
    return fingerprint


def _chunks(indices: Iterable[int]) -> Iterator[list[int]]:
    remaining = iter(indices)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk


def _folders(paths: Sequence[str], indices: Iterable[int]) -> dict[str, dict[str, int]]:
    """Group paths by folder (a path or a URI); each group maps file names to indices."""
    folders: dict[str, dict[str, int]] = {}
    for index in indices:
        folder, name = files.parent(paths[index])
        folders.setdefault(folder, {})[name] = index
    return folders


def _of_remote(
    root: str, paths: Sequence[str], indices: Sequence[int]
) -> Iterator[tuple[int, Fingerprint]]:
    """Yield the index and fingerprint of each file that is not on a local disk.

    Up to `CHUNK` files of a folder are requested one by one. More files are read from the listing
    of their folder, which has a thousand objects per response; web servers have no listings. Files
    of a storage that does not answer are left out; reading the images will then report the error.
    """
    singles: list[tuple[int, FileSystem, str]] = []
    for folder, members in _folders(paths, indices).items():
        try:
            fs, path = files.locate(root, folder)
            if len(members) > CHUNK and not files.is_web(fs):
                there = of_folder(fs, path)
                yield from ((index, there.get(name, ABSENT)) for name, index in members.items())
                continue
        except (OSError, ValueError):
            continue
        singles += ((index, fs, files.join(path, name)) for name, index in members.items())
    gone: set[str] = set()  # storages that do not answer, so that not every file waits for them

    def look(fs: FileSystem, name: str) -> Fingerprint:
        if fs.type_name in gone:
            return UNKNOWN
        try:
            return of_info(fs.get_file_info(name))
        except OSError:
            if not files.is_web(fs):  # other servers may answer
                gone.add(fs.type_name)
            return UNKNOWN

    with ThreadPoolExecutor(THREADS) as pool:
        prints = pool.map(lambda one: look(*one[1:]), singles)
        yield from ((index, one) for (index, *_), one in zip(singles, prints, strict=True))
