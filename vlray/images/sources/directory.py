"""List all image files below a folder, on a local disk or in object storage."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator

from pyarrow.fs import FileSelector, FileSystem, FileType

from vlray.images.sources.entry import archive_kind
from vlray.images.sources.names import NameFilter
from vlray.storage import files, fingerprint
from vlray.storage.fingerprint import Fingerprint

_Identity = tuple[int, int]  # device and inode


class Walk:
    """One pass over the files below a folder.

    Attributes:
        names: Selects the images, and counts the other files.
        archives: Relative path and fingerprint of each archive; they do not count as images.
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
            exclude: Patterns of names or relative paths to leave out, besides
                `vlray.images.sources.names.EXCLUDED`.
        """
        self._fs, self._folder = fs, folder
        self._follow_symlinks = follow_symlinks
        self._leave_out = "" if leave_out == folder else leave_out
        self.names = NameFilter(exclude)
        self.archives: list[tuple[str, Fingerprint]] = []
        self.unreadable: list[str] = []

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

    def _remote(self, below: str) -> Iterator[tuple[str, Fingerprint]]:
        top = files.join(self._folder, below).rstrip("/")
        start = len(self._folder.rstrip("/")) + 1
        leave_out = self._leave_out + "/"
        for info in self._fs.get_file_info(FileSelector(top, recursive=True)):
            path = info.path
            if info.type != FileType.File or (self._leave_out and path.startswith(leave_out)):
                continue
            relative = path[start:]
            if self.names.is_left_out(relative):
                continue
            if self.names.is_image(relative):
                yield relative, fingerprint.of_info(info)
            elif archive_kind(relative):
                self.archives.append((relative, fingerprint.of_info(info)))

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
                    if self.names.is_excluded(prefix + name, name):
                        continue
                    if _is_folder(entry, self._follow_symlinks):
                        identity = _identity(entry.path)
                        if identity != leave_out and identity not in above:
                            stack.append((entry.path, f"{prefix}{name}/", (*above, identity)))
                    # List broken links, so that they become visible failures. Skip other special
                    # files: reading a pipe would block.
                    elif entry.is_symlink() or entry.is_file():
                        if self.names.is_image(name):
                            yield prefix + name, _fingerprint_of(entry)
                        elif archive_kind(name):
                            self.archives.append((prefix + name, _fingerprint_of(entry)))


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
