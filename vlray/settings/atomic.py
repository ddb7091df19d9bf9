"""Local files that appear whole or not at all. Standard library only: settings are written too."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".tmp-"
"""Prefix of the names of unfinished files."""


@contextmanager
def replacing(path: Path, *, exclusive: bool = False) -> Iterator[Path]:
    """Write a file, folder or link under a temporary name, then rename it to ``path``.

    The content is synced before the rename and the folder after it, so that a power cut leaves
    the old file or the new one.

    Args:
        path: What is there already is replaced, a whole folder as well; its parent is made.
        exclusive: The caller holds a lock. The temporary name is then fixed, and what a killed
            process left under it is removed first.

    Yields:
        A hidden path in the same folder that does not exist. Whatever is there when the block
        ends takes the place of ``path``; if the block raises, it is removed.

    Raises:
        OSError: The disk is full, or the folder is not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name if exclusive else secrets.token_hex(8)
    temporary = path.with_name(f"{TEMPORARY}{name}")
    if exclusive:
        discard(temporary)
    try:
        yield temporary
        _sync_all(temporary)
        if temporary.is_dir() and not temporary.is_symlink():
            discard(path)  # a rename replaces only an empty folder
        temporary.replace(path)
    except BaseException as error:
        discard(temporary)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    sync(path.parent)


def write(path: Path, data: bytes | memoryview) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        OSError: The disk is full, or the folder is not writable.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def discard(path: Path) -> None:
    """Remove a file, link or folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, outlast a power cut."""
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
