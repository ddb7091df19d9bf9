"""Text files of one image per line, whose lines are hundreds of kilobytes long."""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import DTypeLike

LONGEST = 256 * 2**20  # bytes of one line: 20,000 regions; what is longer is no line of ours
BUFFER = 2**20


class DamagedError(ValueError):
    """One image of a file cannot be read; the others may."""


def lines(source: Path, position: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is not empty, without its end, and the byte behind it.

    Raises:
        ValueError: A line has no end in sight; the file is no text.
    """
    with source.open("rb", buffering=BUFFER) as stream:
        stream.seek(position)
        while line := _line(stream, source):
            position += len(line)
            text = line.rstrip(b"\r\n")
            if text:
                yield position, text


def first_lines(source: Path, count: int) -> list[bytes]:
    """Read the first lines, to tell by them what a file is; none if it is no text."""
    found: list[bytes] = []
    try:
        if source.is_file() and b"\0" not in _head(source):
            for _, line in lines(source):
                found.append(line)
                if len(found) == count:
                    break
    except ValueError:
        return []
    return found


def _head(source: Path) -> bytes:
    with source.open("rb") as stream:
        return stream.read(512)


def _line(stream: BinaryIO, source: Path) -> bytes:
    line = stream.readline(LONGEST)
    if len(line) == LONGEST:
        raise ValueError(
            f"{source} has a line of more than {LONGEST >> 20} MiB at byte "
            f"{stream.tell() - len(line):,}; no image has as many regions, so it is another form"
        )
    return line


def decode_base64(name: str, text: bytes) -> bytes:
    """Decode a field.

    Raises:
        DamagedError: It is not base64; the field is named.
    """
    if text[:2] in (b"b'", b'b"'):  # str(bytes) of Python 3, which some writers let through
        text = text[2:-1]
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise DamagedError(f"{name} is broken base64: {error}") from error


def numbers(name: str, text: bytes, count: int, kinds: tuple[DTypeLike, ...]) -> np.ndarray:
    """Decode a field of base64 into as many numbers as there should be.

    Args:
        name: Of the field, for the error.
        text: Its base64.
        count: How many numbers.
        kinds: The types that they may have, of different size: the number of bytes tells.

    Raises:
        DamagedError: It is not base64, or of another number of bytes.
    """
    data = decode_base64(name, text)
    for kind in kinds:
        if len(data) == count * np.dtype(kind).itemsize:
            return np.frombuffer(data, kind)
    wanted = " or ".join(f"{count * np.dtype(kind).itemsize:,}" for kind in kinds)
    raise DamagedError(f"{name} has {len(data):,} bytes where {count:,} numbers need {wanted}")
