"""Names of all image files below a folder, on a local disk or in object storage."""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Collection, Iterator

from pyarrow.fs import FileSelector, FileSystem, FileType

from vlray.storage import files, fingerprint
from vlray.storage.fingerprint import Fingerprint

EXTENSIONS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".avif"),
        *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k"),
    )
)
"""What counts as an image in a folder, in lower case."""

_Identity = tuple[int, int]  # device and inode


class Walk:
    """One pass over the files below a folder.

    Attributes:
        skipped: Files that are no images by their names, counted by extension in lower case.
    """

    def __init__(self, fs: FileSystem, folder: str, *, follow_symlinks: bool, leave_out: str):
        """Take the folder as a path on its filesystem; ``leave_out`` is a path on it, or empty."""
        self._fs, self._folder = fs, folder
        self._follow_symlinks = follow_symlinks
        self._leave_out = "" if leave_out == folder else leave_out
        self.skipped: Counter[str] = Counter()

    def folders(self) -> list[str]:
        """Give the names of the folders right below."""
        if not files.is_local(self._fs):
            found = self._fs.get_file_info(FileSelector(self._folder))
            return [info.base_name for info in found if info.type == FileType.Directory]
        with os.scandir(self._folder) as entries:
            return [
                files.escape_bytes(entry.name)
                for entry in entries
                if entry.is_dir(follow_symlinks=self._follow_symlinks)
            ]

    def images(self, below: Collection[str] = ()) -> Iterator[tuple[str, Fingerprint]]:
        """Yield the images' paths relative to the folder with their fingerprints, in no order.

        Args:
            below: Only these folders; none: everything.
        """
        walk = self._local if files.is_local(self._fs) else self._remote
        for name in below or ("",):
            yield from walk(name)

    def _wanted(self, name: str) -> bool:
        extension = posixpath.splitext(name)[1].lower()
        if extension in EXTENSIONS:
            return True
        self.skipped[extension] += 1
        return False

    def _remote(self, below: str) -> Iterator[tuple[str, Fingerprint]]:
        top = files.join(self._folder, below).rstrip("/")
        start = len(self._folder.rstrip("/")) + 1
        leave_out = self._leave_out + "/"
        for info in self._fs.get_file_info(FileSelector(top, recursive=True)):
            path = info.path
            if info.type != FileType.File or (self._leave_out and path.startswith(leave_out)):
                continue
            relative = path[start:]
            if not (relative.startswith(".") or "/." in relative) and self._wanted(relative):
                yield relative, fingerprint.of_info(info)

    def _local(self, below: str) -> Iterator[tuple[str, Fingerprint]]:
        """Walk without recursion; links that lead back to a folder above them are not entered."""
        leave_out = _identity(self._leave_out) if os.path.isdir(self._leave_out) else None  # noqa: PTH112 - "" is none
        top = files.restore_bytes(below) if below else ""
        path = os.path.join(self._folder, top)  # noqa: PTH118 - scandir gives strings
        above: tuple[_Identity, ...] = (_identity(self._folder), _identity(path))
        stack = [(path, below and below + "/", above)]
        while stack:
            path, prefix, above = stack.pop()
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    name = entry.name if entry.name.isascii() else files.escape_bytes(entry.name)
                    if entry.is_dir(follow_symlinks=self._follow_symlinks):
                        identity = _identity(entry.path)
                        if identity != leave_out and identity not in above:
                            stack.append((entry.path, f"{prefix}{name}/", (*above, identity)))
                    # A broken link is listed: it becomes a failure that somebody sees. What is no
                    # regular file (a pipe would block its reader) is not.
                    elif (entry.is_file() or entry.is_symlink()) and self._wanted(name):
                        yield prefix + name, _look_at(entry)


def _look_at(entry: os.DirEntry[str]) -> Fingerprint:
    try:
        return fingerprint.of_stat(entry.stat())
    except OSError:  # a broken link, for instance
        return fingerprint.of_file(entry.path)


def _identity(folder: str) -> _Identity:
    found = os.stat(folder)  # noqa: PTH116 - of a string
    return found.st_dev, found.st_ino
