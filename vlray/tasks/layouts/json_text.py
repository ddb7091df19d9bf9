"""Bring the text of JSON documents into the form that the parser accepts."""

from __future__ import annotations

import re
from typing import Protocol

import numpy as np

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
OTHER_ENCODINGS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""Byte order marks of encodings that are not read; the longer ones come first."""

# A string, which is kept, or one of the constants that Python's json module writes.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|-?(?:NaN|Infinity)\b', re.DOTALL)
_INSIDE = re.compile(rb'(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)
_CONSTANTS = (b"NaN", b"Infinity")
_LONGEST = len(b"-Infinity")
# Every character of the constants.
_LETTERS = b"-NaInfity"


MAX_DEPTH = 200
"""Limit on nested lists and objects. Official files have less than ten levels, and the parser's
memory grows with the square of the depth."""

MAX_DIGITS = 1_000
"""Limit on the digits of a number; the parser crashes at some 4,300."""

_MANY_DIGITS = re.compile(rb"[0-9]{%d}" % MAX_DIGITS)


class ByteStream(Protocol):
    """Anything with ``read``, such as an open file."""

    def read(self, size: int, /) -> bytes:
        """Read at most ``size`` bytes; nothing at the end."""


class JsonText:
    """JSON text without a byte order mark and with ``null`` for NaN and infinities.

    Deep nesting and very long numbers are refused before the parser sees them. pandas and Python's
    json module write NaN for missing values, which JSON does not allow.
    """

    def __init__(self, stream: ByteStream, path: str) -> None:
        """Wrap the bytes of the document ``path``, which is named in errors."""
        self._stream, self._path = stream, path
        self._tail = b""
        self._is_start = True
        self._in_string = False
        self._depth = 0

    def read(self, size: int = -1) -> bytes:
        """Read about ``size`` bytes; nothing only at the end.

        Raises:
            ValueError: The document is in UTF-16 or UTF-32, is nested too deeply, or has a number
                with too many digits.
        """
        if size == 0:
            return b""
        # A short read may be held back entirely, but empty bytes would mean the end of the file.
        while True:
            read = self._stream.read(size)
            data = self._tail + read
            if self._is_start and read:
                # The first read of a file returns more bytes than a byte order mark has.
                data, self._is_start = self._without_mark(data), False
            # A constant or an escape sequence may continue in the next bytes.
            kept = _open_end(data) if read else 0
            data, self._tail = data[: len(data) - kept], data[len(data) - kept :]
            if data or not read:
                return self._without_constants(data)

    def _without_mark(self, data: bytes) -> bytes:
        for mark, encoding in OTHER_ENCODINGS.items():
            if data.startswith(mark):
                raise ValueError(
                    f"{self._path} is in {encoding}; convert it to UTF-8: "
                    f"iconv -f {encoding} -t UTF-8"
                )
        return data.removeprefix(BYTE_ORDER_MARK)

    def _without_constants(self, data: bytes) -> bytes:
        """Replace constants outside of strings, and remember whether the data ends in a string."""
        starts_inside = self._in_string
        inside = self._strings(data)
        self._check_limits(data, inside)
        if len(inside):
            self._in_string = bool(inside[-1])
        if not any(constant in data for constant in _CONSTANTS):
            return data
        end = 0
        # The data begins inside a string, which is passed on unchanged up to its end.
        if starts_inside and (rest := _INSIDE.match(data)):
            end = rest.end()
        return data[:end] + _TOKEN.sub(_replacement, data[end:])

    def _strings(self, data: bytes) -> np.ndarray:
        """Return for each byte whether a string is open behind it."""
        # Escaped quotation marks do not count; the replacements keep the length.
        plain = data.replace(rb"\\", b"  ").replace(rb"\"", b"  ")
        quotes = np.frombuffer(plain, np.uint8) == ord('"')
        opened: np.ndarray = (np.cumsum(quotes, dtype=np.int64) + self._in_string) % 2 == 1
        return opened

    def _check_limits(self, data: bytes, inside: np.ndarray) -> None:
        codes = np.frombuffer(data, np.uint8)
        opened = ((codes == ord("[")) | (codes == ord("{"))) & ~inside
        closed = ((codes == ord("]")) | (codes == ord("}"))) & ~inside
        depth = self._depth + np.cumsum(opened.astype(np.int32) - closed)
        if len(depth):
            self._depth = int(depth[-1])
            if int(depth.max()) > MAX_DEPTH:
                raise ValueError(
                    f"{self._path} nests lists and objects more than {MAX_DEPTH} deep; it is not "
                    "one of the official files"
                )
        for match in _MANY_DIGITS.finditer(data):
            if not inside[match.start()]:
                raise ValueError(
                    f"{self._path} has a number with {MAX_DIGITS:,} or more digits; correct it"
                )


def _replacement(token: re.Match[bytes]) -> bytes:
    return token[0] if token[0].startswith(b'"') else b"null"


def _open_end(data: bytes) -> int:
    """Return how many of the last bytes may belong to a token that continues."""
    backslashes = len(data) - len(data.rstrip(b"\\"))
    if backslashes:
        # The last of an odd number escapes the next byte, so it waits for that byte.
        return backslashes % 2
    letters = (
        len(data) - len(data[-_LONGEST - 1 :].rstrip(_LETTERS)) - max(len(data) - _LONGEST - 1, 0)
    )
    # A longer run of these letters is not the start of a constant.
    return letters if letters <= _LONGEST else 0
