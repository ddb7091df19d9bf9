"""Open archives: read bytes at any place, from disk or object storage."""

from __future__ import annotations

import gzip
import itertools
import threading
import zlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from vlray.images.decode import ImageError
from vlray.storage import files, fingerprint
from vlray.storage.fingerprint import Fingerprint

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.fs as pafs

MAX_OPEN = 4  # archives per thread


class Handle:
    """An open archive. It belongs to one thread.

    Attributes:
        opened: What a module keeps for the archive between two reads.
    """

    def __init__(self, fs: pafs.FileSystem, path: str, is_packed: bool) -> None:
        """Open an archive.

        Args:
            fs: Filesystem of the archive.
            path: Path of the archive on it.
            is_packed: Whether the archive is compressed as a whole.

        Raises:
            OSError: The archive is missing or unreadable.
        """
        with files.explained(path):
            self.file: pa.NativeFile = fs.open_input_file(path)
        self._unpacked: gzip.GzipFile | None = None
        if is_packed:
            self._unpacked = gzip.GzipFile(fileobj=self.file)
        self.opened: dict[str, Any] = {}

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from an offset: one request to object storage.

        A compressed tar is read in order: a place before the previous one starts again from the
        beginning of the archive.

        Raises:
            ImageError: The compressed data is damaged.
            OSError: The archive cannot be read.
        """
        if self._unpacked is None:
            size = max(0, min(size, self.file.size() - offset))
            return bytes(self.file.read_at(size, offset)) if size else b""
        try:
            self._unpacked.seek(offset)
            return self._unpacked.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ImageError(f"the archive is damaged or cut off ({error})") from error

    def close(self) -> None:
        """Close the archive."""
        for opened in self.opened.values():
            opened.close()
        self.file.close()


class _Opened(NamedTuple):
    handle: Handle
    fingerprint: Fingerprint
    look: int  # number of the look at which the fingerprint was compared


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.opened: OrderedDict[tuple[str, str, bool], _Opened] = OrderedDict()


_THREAD = _PerThread()
_LOOKS = itertools.count(1)
_look = 0


def look_again() -> None:
    """Compare the fingerprints of open archives once more, when each is next read.

    To be called before a group of reads, such as a shard: object storage takes a request for each
    fingerprint.
    """
    global _look
    _look = next(_LOOKS)


def open_handle(fs: pafs.FileSystem, path: str, *, is_packed: bool = False) -> Handle:
    """Open an archive, or return the handle that this thread opened before.

    An archive that has been replaced before the last `look_again` is opened again.
    """
    key, opened, look = (fs.type_name, path, is_packed), _THREAD.opened, _look
    known = opened.get(key)
    if known is None or known.look != look:
        with files.explained(path):
            now = fingerprint.of_info(fs.get_file_info(path))
        if known is not None and known.fingerprint != now:
            opened.pop(key).handle.close()
            known = None
        handle = known.handle if known is not None else Handle(fs, path, is_packed)
        opened[key] = _Opened(handle, now, look)
        while len(opened) > MAX_OPEN:
            # The one that has not been used for the longest time.
            opened.popitem(last=False)[1].handle.close()
    opened.move_to_end(key)
    return opened[key].handle
