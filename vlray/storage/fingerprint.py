"""Fingerprints of sources: whether a file is the one that was read before.

A fingerprint is the size and the time of the last change: one ``stat`` of a local file, nothing
but the listing of a bucket. Buckets have ETags as well, but pyarrow's listings do not return them,
and one request for each object would make a listing of a million slow; an object that is written
again has another time. Where both can lie, content decides: a copy of a folder has other times
than the folder (`digest`), and what was cut and filled again may have the same size.
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

THREADS = 16  # mostly waiting for network storage
CHUNK = 1000  # files that a thread looks at in one go; also what one answer of a bucket lists


SAMPLED = 64 * 2**20  # bytes of each end; the middle of more content is known by its time alone
BLOCK = 2**20


class Fingerprint(NamedTuple):
    """Size in bytes and time of the last change in ns; both None where it could not be found."""

    file_bytes: int | None
    mtime_ns: int | None


ABSENT = Fingerprint(-1, 0)
"""Of a file that is not there."""

UNKNOWN = Fingerprint(None, None)
"""Of a file that could not be looked at; it says nothing, also not that the file has changed."""


def of_stat(status: os.stat_result) -> Fingerprint:
    """Take the fingerprint out of what ``stat`` returned."""
    return Fingerprint(status.st_size, status.st_mtime_ns)


def of_info(info: FileInfo) -> Fingerprint:
    """Take the fingerprint out of what a filesystem of pyarrow returned."""
    from pyarrow.fs import FileType

    if info.type == FileType.NotFound:
        return ABSENT
    return Fingerprint(info.size or 0, info.mtime_ns or 0)


def of_file(path: str | os.PathLike[str]) -> Fingerprint:
    """Look at one local file; links are followed."""
    try:
        return of_stat(os.stat(path))  # noqa: PTH116 - a million strings become no Paths
    except OSError as error:
        gone = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
        return ABSENT if gone else UNKNOWN


def of_paths(root: str, paths: Sequence[str]) -> list[Fingerprint]:
    """Look at the files of a listing, many at a time.

    Args:
        root: What the paths are relative to.
        paths: As in a listing: relative, absolute or a URI each.
    """
    found = [UNKNOWN] * len(paths)
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
                found[index] = fingerprint
    for folder, members in _folders(paths, remote).items():
        for index, fingerprint in _of_remote(root, folder, members):
            found[index] = fingerprint
    return found


def of_tree(uri: str, *, deep: bool = True) -> dict[str, Fingerprint]:
    """Look at a file, or at all files of a folder.

    Args:
        uri: A path or URI.
        deep: Whether the folders below count as well.

    Returns:
        By path on the filesystem, sorted; empty where there is nothing.

    Raises:
        OSError: The storage cannot be reached.
        ValueError: The URI is of an unknown scheme.
    """
    from pyarrow.fs import FileSelector, FileType

    fs, path = files.resolve(uri)
    with files.explained(uri):
        [info] = fs.get_file_info([path])
        infos = [info]
        if info.type == FileType.Directory:
            infos = fs.get_file_info(FileSelector(path, recursive=deep))
    found = {info.path: of_info(info) for info in infos if info.type == FileType.File}
    return dict(sorted(found.items()))


def of_folder(fs: FileSystem, folder: str) -> dict[str, Fingerprint]:
    """Look at the files of one folder, by name; nothing where there is no such folder.

    Raises:
        OSError: The storage cannot be reached.
    """
    from pyarrow.fs import FileSelector

    with files.explained(folder if files.is_local(fs) else f"{fs.type_name}://{folder}"):
        infos = fs.get_file_info(FileSelector(folder, allow_not_found=True))
    return {info.base_name: of_info(info) for info in infos if info.is_file}


def summary(fingerprints: Mapping[str, Fingerprint]) -> str:
    """Digest the names, sizes and times of files; in whatever order they are given."""
    lines = sorted(f"{name}\0{size}\0{time}\n" for name, (size, time) in fingerprints.items())
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def sample(paths: Sequence[Path]) -> tuple[str, bool]:
    """Digest the content of local files, of much content only both ends.

    Args:
        paths: Read one after the other, as if they were one file.

    Returns:
        SHA-256 of all sizes and of the first and the last `SAMPLED` bytes, and whether these are
        all there are.

    Raises:
        OSError: One cannot be read.
    """
    sizes = [path.stat().st_size for path in paths]
    total = sum(sizes)
    content = hashlib.sha256(json.dumps(sizes).encode())
    is_whole = total <= 2 * SAMPLED
    begin = 0
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
    """Return the digest of a file's content, 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digests(root: str, paths: Sequence[str]) -> list[str]:
    """Read the files of a listing, many at a time; empty for one that cannot be read."""

    def read(path: str) -> str:
        try:
            return digest(files.read_bytes(*files.locate(root, path)))
        except OSError:
            return ""

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(read, paths))


def _of_local(root: str, path: str) -> Fingerprint:
    whole = files.join(root, path)
    found = of_file(whole)
    if found == ABSENT and (restored := files.restore_bytes(whole)) != whole:
        return of_file(restored)
    return found


def _chunks(indices: Iterable[int]) -> Iterator[list[int]]:
    remaining = iter(indices)
    while chunk := list(islice(remaining, CHUNK)):
        yield chunk


def _folders(paths: Sequence[str], indices: Iterable[int]) -> dict[str, dict[str, int]]:
    """Group paths by folder, itself a path or a URI: the index of each file by its name."""
    folders: dict[str, dict[str, int]] = {}
    for index in indices:
        folder, name = files.parent(paths[index])
        folders.setdefault(folder, {})[name] = index
    return folders


def _of_remote(
    root: str, folder: str, members: dict[str, int]
) -> Iterator[tuple[int, Fingerprint]]:
    """Look at some files of one folder of a bucket.

    An answer lists a thousand objects, so that of few files each is asked for by itself. Where the
    storage does not answer, nothing is known; reading the images will say what is wrong.
    """
    try:
        fs, path = files.locate(root, folder)
        if len(members) > CHUNK:
            there = of_folder(fs, path)
            yield from ((index, there.get(name, ABSENT)) for name, index in members.items())
            return
        with ThreadPoolExecutor(THREADS) as pool:
            names = [files.join(path, name) for name in members]
            infos = pool.map(lambda name: fs.get_file_info(name), names)
            for index, info in zip(members.values(), infos, strict=True):
                yield index, of_info(info)
    except (OSError, ValueError):
        return
