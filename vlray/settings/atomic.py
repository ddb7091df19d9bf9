"""Atomic writes of local files. Uses the standard library only, so any module can import it."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".tmp-"
"""Name prefix of unfinished files."""


@contextmanager
def replacing(path: Path, *, exclusive: bool = False) -> Iterator[Path]:
    """Write a file, folder or link under a temporary name, then rename it to ``path``.

    The content is synced before the rename and the parent folder after it. A power cut therefore
    leaves either the old file or the new one.

    Args:
        path: The file or folder to create. An existing one is replaced, and missing parent folders
            are created.
        exclusive: Whether the caller holds a lock. The temporary name is then fixed, and
            whatever a killed process left under that name is removed first.

    Yields:
        A hidden path in the same folder, where nothing exists yet. When the block ends, the file
        or folder written there is renamed to ``path``; if the block raises, it is removed.

    Raises:
        OSError: The disk is full, or the folder is not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without a lock, a random name keeps concurrent writers of the same path apart.
    name = path.name if exclusive else secrets.token_hex(8)
    temporary = path.with_name(f"{TEMPORARY}{name}")
    if exclusive:
        discard(temporary)
    try:
        yield temporary
        _sync_all(temporary)
        if temporary.is_dir() and not temporary.is_symlink():
            discard(path)  # a rename cannot replace a folder that has content
        temporary.replace(path)
    except BaseException as error:
        discard(temporary)
        # A full disk raises without a file name; the message needs one.
        if isinstance(error, OSError) and error.errno and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    sync(path.parent)  # so that the rename survives a power cut


PRIVATE = 0o600
"""Mode of files that only their owner may read."""


def write(path: Path, data: bytes | memoryview, mode: int | None = None) -> None:
    """Write a file atomically: readers see the whole file or none.

    Args:
        path: The file.
        data: Its content.
        mode: Mode of the file, such as `PRIVATE`; None: as the umask decides.

    Raises:
        OSError: The disk is full, or the folder is not writable.
    """
    with replacing(path) as temporary:
        if mode is not None:
            temporary.touch(mode)  # before it has content
        temporary.write_bytes(data)


def discard(path: Path) -> None:
    """Remove a file, link or folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file's content or a folder's entries to disk, so that they survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network filesystems cannot sync folders.
        if error.errno != errno.EINVAL or path.is_file():
            raise
    finally:
        os.close(descriptor)


def _sync_all(path: Path) -> None:
    if path.is_symlink():
        return
    if path.is_dir():
        for below in path.rglob("*"):
            sync(below)
    sync(path)
