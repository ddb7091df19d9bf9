"""List all image files below a folder, on a local disk or in object storage."""

from __future__ import annotations

import fnmatch
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from itertools import accumulate

from pyarrow.fs import FileSelector, FileSystem, FileType

from vlray.storage import files, fingerprint
from vlray.storage.fingerprint import Fingerprint

EXTENSIONS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".avif"),
        *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k"),
    )
)
"""Lower-case extensions of image files."""

OTHER_EXTENSIONS = frozenset(
    (
        *(".heic", ".heif", ".jxl", ".psd", ".tga", ".dng", ".cr2", ".cr3", ".nef", ".arw"),
        *(".orf", ".raf", ".rw2", ".pef", ".srw"),
    )
)
"""Lower-case extensions of image files that vlray does not read."""

EXCLUDED = ("@eaDir", "__MACOSX")
"""Folders of thumbnails and metadata that file servers and archivers add; always left out."""

Matcher = Callable[[str], re.Match[str] | None]

_Identity = tuple[int, int]  # device and inode


def matcher(patterns: Collection[str]) -> Matcher:
    """Compile patterns of names or relative paths to leave out, such as ``*_small.jpg``."""
    # One regular expression: a listing may have millions of names. `(?!)` matches nothing.
    translated = [fnmatch.translate(pattern.rstrip("/")) for pattern in patterns]
    return re.compile("|".join(translated) or r"(?!)").match


def is_below_match(path: str, match: Matcher) -> bool:
    """Return whether a pattern matches a path, a folder above it, or one of their names."""
    parts = path.split("/")
    return any(
        match(part) or match(prefix)
        for part, prefix in zip(parts, accumulate(parts, "{}/{}".format), strict=True)
    )


class Walk:
    """One pass over the files below a folder.

    Attributes:
        skipped: Number of non-image files, keyed by lower-case extension.
        excluded: Number of files and folders that a pattern leaves out.
        unreadable: Relative paths of folders that cannot be listed.
    """

    def __init__(
        self,
        fs: FileSystem,
        folder: str,
        *,
        follow_symlinks: bool,
        leave_out: str,
        exclude: Collection[str] = (),
    ):
        """Prepare the walk.

        Args:
            fs: Filesystem of the folder.
            folder: Path of the folder.
            follow_symlinks: Whether to follow links to folders.
            leave_out: Path of a subfolder to skip, or empty.
            exclude: Patterns of names or relative paths to leave out, besides `EXCLUDED`.
        """
        self._fs, self._folder = fs, folder
        self._follow_symlinks = follow_symlinks
        self._leave_out = "" if leave_out == folder else leave_out
        self.skipped: Counter[str] = Counter()
        self.excluded = 0
        self.unreadable: list[str] = []
        self._excluded = matcher((*EXCLUDED, *exclude))

    def folders(self) -> list[str]:
        """Return the names of the direct subfolders."""
        if not files.is_local(self._fs):
            infos = self._fs.get_file_info(FileSelector(self._folder))
            return [info.base_name for info in infos if info.type == FileType.Directory]
        with os.scandir(self._folder) as entries:
            return [
                files.escape_bytes(entry.name)
                for entry in entries
                if _is_folder(entry, self._follow_symlinks)
            ]

    def images(self, below: Collection[str] = ()) -> Iterator[tuple[str, Fingerprint]]:
        """Yield the relative path and the fingerprint of each image, in arbitrary order.

        Args:
            below: Subfolders to list. If empty, list everything.
        """
        walk = self._local if files.is_local(self._fs) else self._remote
        for name in below or ("",):
            yield from walk(name)

    def _is_image(self, name: str) -> bool:
        """Return whether a file has an image extension; if not, count it in ``skipped``."""
        extension = posixpath.splitext(name)[1].lower()
        if extension in EXTENSIONS:
            return True
        self.skipped[extension] += 1
        return False

    def _is_excluded(self, path: str, name: str) -> bool:
        """Return whether a pattern matches the name or the relative path; if so, count it."""
        if not (self._excluded(name) or self._excluded(path)):
            return False
        self.excluded += 1
        return True

    def _remote(self, below: str) -> Iterator[tuple[str, Fingerprint]]:
        top = files.join(self._folder, below).rstrip("/")
        start = len(self._folder.rstrip("/")) + 1
        leave_out = self._leave_out + "/"
        for info in self._fs.get_file_info(FileSelector(top, recursive=True)):
            path = info.path
            if info.type != FileType.File or (self._leave_out and path.startswith(leave_out)):
                continue
            relative = path[start:]
            # Hidden files and folders are ignored, as in _local.
            if relative.startswith(".") or "/." in relative:
                continue
            if is_below_match(relative, self._excluded):
                self.excluded += 1
                continue
            if self._is_image(relative):
                yield relative, fingerprint.of_info(info)

    def _local(self, below: str) -> Iterator[tuple[str, Fingerprint]]:
        """Walk iteratively, without following links to a parent folder, which would never end."""
        leave_out = _identity(self._leave_out) if os.path.isdir(self._leave_out) else None  # noqa: PTH112 - may be ""
        top = files.restore_bytes(below) if below else ""
        path = os.path.join(self._folder, top)  # noqa: PTH118 - scandir yields strings
        above: tuple[_Identity, ...] = (_identity(self._folder), _identity(path))
        stack = [(path, below and below + "/", above)]
        while stack:
            path, prefix, above = stack.pop()
            try:
                scan = os.scandir(path)
            except OSError:
                if path == self._folder:
                    raise
                self.unreadable.append(prefix)
                continue
            with scan as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    name = entry.name if entry.name.isascii() else files.escape_bytes(entry.name)
                    if self._is_excluded(prefix + name, name):
                        continue
                    if _is_folder(entry, self._follow_symlinks):
                        identity = _identity(entry.path)
                        if identity != leave_out and identity not in above:
                            stack.append((entry.path, f"{prefix}{name}/", (*above, identity)))
                    # List broken links, so that they become visible failures. Skip other special
                    # files: reading a pipe would block.
                    elif (entry.is_symlink() or entry.is_file()) and self._is_image(name):
                        yield prefix + name, _fingerprint_of(entry)


def _is_folder(entry: os.DirEntry[str], follow_symlinks: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:  # a link to itself
        return False


def _fingerprint_of(entry: os.DirEntry[str]) -> Fingerprint:
    try:
        return fingerprint.of_stat(entry.stat())
    except OSError:  # a broken link, for instance
        return fingerprint.of_file(entry.path)


def _identity(folder: str) -> _Identity:
    status = os.stat(folder)  # noqa: PTH116 - a string, not a Path
    return status.st_dev, status.st_ino
