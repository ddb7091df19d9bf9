"""Read text files with one image per line; a line may be hundreds of kilobytes long."""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import DTypeLike

from vlray.formats.readers.streams import open_stream

LONGEST = 256 * 2**20  # bytes of a line, enough for 20,000 regions

_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class DamagedError(ValueError):
    """Raised if one image in a file cannot be read; other images may be intact."""


def lines(source: Path, position: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield non-empty lines without line ends, each with the byte position after it.

    Compressed files and UTF-16 are decoded, and positions refer to the decoded text.

    Raises:
        ValueError: A line is too long (`LONGEST`) for any format with one image per line, or a
            compressed file is damaged.
    """
    with open_stream(source, position) as stream:
        while line := _line(stream, source):
            position += len(line)
            text = line.rstrip(b"\r\n")
            if text:
                yield position, text


def first_lines(source: Path, count: int) -> list[bytes]:
    """Read the first lines for format detection; return an empty list if the file is not text."""
    head: list[bytes] = []
    try:
        if source.is_file() and b"\0" not in _head(source):
            for _, line in lines(source):
                head.append(line)
                if len(head) == count:
                    break
    except ValueError:
        return []
    return head


def _head(source: Path) -> bytes:
    with open_stream(source) as stream:
        return stream.read(512)


def _line(stream: BinaryIO, source: Path) -> bytes:
    line = stream.readline(LONGEST)
    if len(line) == LONGEST:
        raise ValueError(
            f"{source} has a line longer than {LONGEST >> 20} MiB at byte "
            f"{stream.tell() - len(line):,}. No image needs that much: the file has another format"
        )
    return line


def decode_base64(name: str, text: bytes) -> bytes:
    """Decode a base64 field.

    Raises:
        DamagedError: The text is not valid base64; the message includes the field's name.
    """
    if text[:2] in (b"b'", b'b"'):  # some writers store Python 3's str(bytes)
        text = text[2:-1]
    if b"-" in text or b"_" in text:  # the URL-safe alphabet, whose writers may drop the padding
        text = text.translate(_URL_SAFE) + b"=" * (-len(text) % 4)
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise DamagedError(f"{name} is not valid base64: {error}") from error


def numbers(name: str, text: bytes, count: int, kinds: tuple[DTypeLike, ...]) -> np.ndarray:
    """Decode a base64 field that holds a known number of values.

    Args:
        name: Name of the field, for the error message.
        text: The base64 text.
        count: Number of values.
        kinds: Possible dtypes, of different sizes; the one that matches the byte count is used.

    Raises:
        DamagedError: The text is not valid base64, or its byte count matches no dtype.
    """
    data = decode_base64(name, text)
    for kind in kinds:
        if len(data) == count * np.dtype(kind).itemsize:
            return np.frombuffer(data, kind)
    expected = " or ".join(f"{count * np.dtype(kind).itemsize:,}" for kind in kinds)
    raise DamagedError(f"{name} has {len(data):,} bytes, but {count:,} numbers require {expected}")
