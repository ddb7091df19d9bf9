"""Locks between the processes of a machine; each goes with the process that holds it."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("vlray.storage.locks")


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a file's lock.

    Args:
        path: The file; it is made, and stays.
        wait: For another process to let go of it, which the log says.

    Yields:
        Whether the lock is held: some network file systems have none.

    Raises:
        BlockingIOError: Another process holds it, and this one does not wait.
        OSError: The file cannot be made.
    """
    with path.open("w") as handle:
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
