"""Locks between processes on one machine, released when the process that holds them ends."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vlray.settings.atomic import replacing

log = logging.getLogger("vlray.storage.locks")


class LockFileError(OSError):
    """Raised when the lock file cannot be created, because the folder is not writable."""


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on a file.

    Args:
        path: The lock file. The file and its folder are created, and not removed afterwards.
        wait: Whether to wait for another process that holds the lock; the wait is logged.

    Yields:
        True if the lock is held; False if the file system does not support locks.

    Raises:
        BlockingIOError: Another process holds the lock, and ``wait`` is False.
        LockFileError: The file cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("w")
    except OSError as error:
        raise LockFileError(error.errno, error.strerror, str(path)) from error
    with handle:
        is_held = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            log.info("another process is using %s; waiting for it", path.parent)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # the file system does not support locks
            is_held = False
        yield is_held


def build_once(path: Path, build: Callable[[Path], None]) -> Path:
    """Build a missing file in one process on this machine; other processes wait for it.

    Args:
        path: The file, which is written atomically.
        build: Function that writes the file to the path that it gets as its argument.

    Returns:
        ``path``.

    Raises:
        LockFileError: The folder is not writable.
        OSError: The disk is full.
    """
    if path.is_file():
        return path
    with locked(path.with_name(f".{path.name}.lock")):
        if not path.is_file():  # another process may have built it meanwhile
            with replacing(path, exclusive=True) as temporary:
                build(temporary)
    return path
