"""Small image files of many kinds, made byte by byte where Pillow cannot write them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def colours(height: int = 12, width: int = 18) -> np.ndarray:
    """RGB without symmetry: every turn and mirror of it is another image."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x * 7 + y * 3) % 256]
    return np.stack(channels, axis=2).astype(np.uint8)


def save(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(sink, kind, **options)
    return sink.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    width: int,
    height: int,
    depth: int,
    kind: int,
    rows: bytes,
    *,
    before: bytes = b"",
    interlaced: bool = False,
) -> bytes:
    """Make a PNG of any depth and kind; ``rows`` come with their filter bytes, not compressed."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def png_rows(values: np.ndarray) -> bytes:
    """Give the rows of an array, 16-bit values big-endian, each after a filter byte of 0."""
    values = values.astype(values.dtype.newbyteorder(">"))
    return b"".join(b"\0" + row.tobytes() for row in values)


def adam7(values: np.ndarray) -> bytes:
    """Give the rows of an array in the seven passes of an interlaced PNG."""
    starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    passes = [values[y::dy, x::dx] for y, x, dy, dx in [*starts, (1, 0, 2, 1)]]
    return b"".join(png_rows(part) for part in passes if part.size)


def segment(marker: int, data: bytes) -> bytes:
    """Make a JPEG segment."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def with_segment(jpeg: bytes, marker: int, data: bytes) -> bytes:
    return jpeg[:2] + segment(marker, data) + jpeg[2:]


def without_segment(jpeg: bytes, marker: int) -> bytes:
    start = jpeg.index(bytes([0xFF, marker]))
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4]) :]


def tiff(tags: dict[int, tuple[int, int, int]], pixels: bytes = b"") -> bytes:
    """Make a little-endian TIFF; tag -> (type, count, value). Pixels follow the header."""
    entries = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + directory


def bmp(width: int, height: int, depth: int, pixels: bytes, *, compression: int = 0) -> bytes:
    """Make a BMP without a palette; a negative height means rows from the top down."""
    header = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, depth, compression, len(pixels), 2835, 2835, 0, 0
    )
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + header + pixels


def exif(orientation: object) -> bytes:
    found = Image.Exif()
    found[0x0112] = orientation
    return found.tobytes()
