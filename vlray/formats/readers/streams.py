"""Open text files as bytes of UTF-8, whatever they are compressed or encoded with."""

from __future__ import annotations

import codecs
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

BUFFER = 2**20
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_CODECS = {_GZIP: "gzip", _ZSTD: "zstd"}
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


def is_plain(source: Path) -> bool:
    """Return whether a file is read as it is: neither compressed nor UTF-16 or UTF-32."""
    with source.open("rb") as file:
        head = file.read(4)
    return head[:2] != _GZIP and head != _ZSTD and not head.startswith((*_UTF16, *_UTF32))


def open_stream(source: Path, position: int = 0) -> BinaryIO:
    """Open a file at a position of its text in UTF-8, without byte order mark.

    Plain files are opened as they are, so a UTF-8 byte order mark stays. In others, everything
    before the position is read and dropped.

    Raises:
        ValueError: The file is damaged.
    """
    file = source.open("rb", buffering=BUFFER)
    if is_plain(source):
        file.seek(position)
        return file
    stream = io.BufferedReader(_Blocks(_decoded(file, source)), BUFFER)
    while position > 0 and (skipped := stream.read(min(position, BUFFER))):
        position -= len(skipped)
    return stream


def text_size(source: Path) -> int:
    """Return the number of bytes of a file's text in UTF-8; other than plain files are read.

    Raises:
        ValueError: The file is damaged.
    """
    if is_plain(source):
        return source.stat().st_size
    with open_stream(source) as stream:
        return sum(len(block) for block in iter(lambda: stream.read(BUFFER), b""))


def _decoded(file: BinaryIO, source: Path) -> Iterator[bytes]:
    """Yield the text of a file in blocks of UTF-8."""
    with file:
        head = file.read(4)
        file.seek(0)
        codec = _CODECS.get(head[:2]) or _CODECS.get(head)
        try:
            if codec:
                with pa.PythonFile(file, "r") as raw, pa.CompressedInputStream(raw, codec) as text:
                    yield from _as_utf8(iter(lambda: text.read(BUFFER), b""))
            else:
                yield from _as_utf8(iter(lambda: file.read(BUFFER), b""))
        except (OSError, EOFError, zlib.error, UnicodeError) as error:
            raise ValueError(f"{source} is damaged: {error}") from error


def _as_utf8(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Convert UTF-16 and UTF-32, which begin with a byte order mark; yield the rest unchanged."""
    decoder: codecs.IncrementalDecoder | None = None
    is_first = True
    for block in blocks:
        if is_first:
            is_first = False
            encoding = "utf-32" if block.startswith(_UTF32) else "utf-16"
            if block.startswith((*_UTF16, *_UTF32)):
                decoder = codecs.getincrementaldecoder(encoding)()
        yield decoder.decode(block).encode() if decoder else block
    if decoder:
        yield decoder.decode(b"", final=True).encode()


class _Blocks(io.RawIOBase):
    """A stream over an iterator of blocks."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # always a memoryview
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = block
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            getattr(self._blocks, "close", lambda: None)()
        super().close()
