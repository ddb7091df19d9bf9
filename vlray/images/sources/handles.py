"""Open archives: read bytes at any place, from disk or object storage."""

from __future__ import annotations

import gzip
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from vlray.images.decode import ImageError
from vlray.storage import files, fingerprint
from vlray.storage.fingerprint import Fingerprint

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.fs as pafs

MAX_OPEN = 4  # archives per thread
WINDOW = 1 << 25  # unpacked bytes that are kept, because threads ask in about the right order only


class Handle:
    """An open archive. One thread at a time uses it.

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
        self._size = self.file.size()
        self._unpacked: gzip.GzipFile | None = None
        # Unpacked bytes before the current place, and the offset of the first of them.
        self._window, self._begin = bytearray(), 0
        if is_packed:
            self._unpacked = gzip.GzipFile(fileobj=self.file)
        self.opened: dict[str, Any] = {}

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from an offset: one request to object storage.

        A compressed archive is read in order: a place more than `WINDOW` bytes before the last one
        starts again from the beginning.

        Raises:
            ImageError: The compressed data is damaged.
            OSError: The archive cannot be read.
        """
        if self._unpacked is None:
            size = max(0, min(size, self._size - offset))
            return bytes(self.file.read_at(size, offset)) if size else b""
        try:
            if offset < self._begin:
                self._unpacked.seek(0)
                self._begin, self._window = 0, bytearray()
            end = self._begin + len(self._window)
            while end < offset + size and (more := self._unpacked.read(1 << 20)):
                self._window += more
                end += len(more)
                spare = min(offset - WINDOW - self._begin, len(self._window))
                if spare > 0:
                    del self._window[:spare]
                    self._begin += spare
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ImageError(f"the archive is damaged or cut off ({error})") from error
        begin = offset - self._begin
        return bytes(self._window[begin : begin + size])

    def close(self) -> None:
        """Close the archive."""
        for opened in self.opened.values():
            opened.close()
        self.file.close()


class _Opened(NamedTuple):
    handle: Handle
    fingerprint: Fingerprint


_Key = tuple[str, str, bool]  # type of the filesystem, path, whether it is compressed
_Archives = OrderedDict[_Key, _Opened]


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.opened: _Archives = OrderedDict()


_THREAD = _PerThread()
_SHARED: _Archives = OrderedDict()
_IN_ORDER = threading.Lock()  # of the shared archives

_prints: dict[_Key, Fingerprint] = {}  # of the archives, since the last `look_again`
_ASKING = threading.Lock()


def look_again() -> None:
    """Ask for the fingerprints of open archives once more, when each is next read.

    To be called before a group of reads, such as a shard: object storage takes a request for each
    fingerprint.
    """
    with _ASKING:
        _prints.clear()


@contextmanager
def open_handle(
    fs: pafs.FileSystem, path: str, *, is_packed: bool, in_order: bool
) -> Iterator[Handle]:
    """Open an archive, or use the handle that was opened before.

    An archive that has been replaced before the last `look_again` is opened again.

    Args:
        fs: Filesystem of the archive.
        path: Path of the archive on it.
        is_packed: Whether the archive is compressed as a whole.
        in_order: Whether the archive is read in order, so that all threads share one handle and
            wait for each other. Otherwise each thread has its own.
    """
    if not in_order:
        yield _open(_THREAD.opened, fs, path, is_packed)
        return
    with _IN_ORDER:
        yield _open(_SHARED, fs, path, is_packed)


def _open(opened: _Archives, fs: pafs.FileSystem, path: str, is_packed: bool) -> Handle:
    key = (fs.type_name, path, is_packed)
    now = _fingerprint(fs, path, key)
    known = opened.get(key)
    if known is not None and known.fingerprint != now:
        opened.pop(key).handle.close()
        known = None
    if known is None:
        opened[key] = known = _Opened(Handle(fs, path, is_packed), now)
        while len(opened) > MAX_OPEN:
            # The one that has not been used for the longest time.
            opened.popitem(last=False)[1].handle.close()
    opened.move_to_end(key)
    return known.handle


def _fingerprint(fs: pafs.FileSystem, path: str, key: _Key) -> Fingerprint:
    with _ASKING:
        if key not in _prints:
            with files.explained(path):
                _prints[key] = fingerprint.of_info(fs.get_file_info(path))
        return _prints[key]
