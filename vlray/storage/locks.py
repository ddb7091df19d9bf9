"""Locks between the processes of a machine; each goes with the process that holds it."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vlray.settings.atomic import replacing

log = logging.getLogger("vlray.storage.locks")


class LockFileError(OSError):
    """The lock file cannot be made: the folder is not writable."""


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a file's lock.

    Args:
        path: The lock file; it and its folder are made, and stay.
        wait: Whether to wait for another process that holds it; the log reports the wait.

    Yields:
        Whether the lock is held: some network file systems have none.

    Raises:
        BlockingIOError: Another process holds it, and this one does not wait.
        LockFileError: The file cannot be made.
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
            log.info("another process is working in %s; waiting for it", path.parent)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            is_held = False
        yield is_held


def build_once(path: Path, build: Callable[[Path], None]) -> Path:
    """Build a missing file in one process of this machine at a time; the others wait for it.

    Args:
        path: The file, which appears whole or not at all.
        build: Writes the file to the path that it is called with.

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
