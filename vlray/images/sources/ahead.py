"""Reading of an archive's headers: ahead where members are small, else the headers only."""

from __future__ import annotations

import pyarrow as pa

AHEAD = 1 << 20  # bytes read at once
SMALL = 1 << 17  # mean size of members below which one long read is faster than many short ones


class Ahead:
    """The part of Python's file interface that reading needs, with one buffer.

    Object storage takes tens of milliseconds for a request, however few bytes it is for.
    """

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._size = stream.size()
        self._position = 0
        self._block, self._begin = b"", 0
        self._ahead = 0

    def expect(self, members: int, end: int) -> None:
        """Choose how far to read ahead, after some members that end at a place."""
        self._ahead = AHEAD if end < members * SMALL else 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to an offset from the beginning."""
        assert whence == 0
        self._position = offset
        return offset

    def tell(self) -> int:
        """Return the current offset."""
        return self._position

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; none behind the end."""
        begin = self._position - self._begin
        if begin < 0 or begin + size > len(self._block):
            length = max(0, min(max(size, self._ahead), self._size - self._position))
            self._block = self._stream.read_at(length, self._position) if length else b""
            self._begin, begin = self._position, 0
        data = self._block[begin : begin + size]
        self._position += len(data)
        return data
