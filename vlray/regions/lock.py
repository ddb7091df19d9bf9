"""Lock for an output, so that only one process writes at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow.fs as pafs

from vlray.storage import files
from vlray.storage.locks import locked


@contextmanager
def only_writer(fs: pafs.FileSystem, root: str, uri: str) -> Iterator[None]:
    """Lock a local output for this process; the lock is released when the process ends.

    The lock prevents duplicate work rather than data loss: without a lock, two processes would
    both write the same files. Object storage has no locks, so outputs there are not locked.

    Raises:
        ValueError: Another process is writing to this output, or the folder is not writable.
    """
    if not files.is_local(fs):
        yield
        return
    with ExitStack() as stack:
        try:
            Path(root).mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(Path(root) / ".lock", wait=False))
        except BlockingIOError:
            raise ValueError(
                f"another vlray process is writing to {uri}; wait for it to end, or choose "
                "another folder"
            ) from None
        except (FileExistsError, NotADirectoryError):
            raise ValueError(
                f"{uri} is a file, or below a file; choose a folder for the output"
            ) from None
        except OSError as error:
            raise ValueError(
                f"{uri} is not writable ({error.strerror}); choose a writable folder"
            ) from error
        yield
