"""Good images of all kinds: each becomes the expected pixels."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.images.encoded import (
    adam7,
    bmp,
    chunk,
    colours,
    exif,
    png,
    png_rows,
    save,
    tiff,
    with_segment,
    without_segment,
)
from vlray.images.decode import as_bgr, decode

RGB = colours()
GREY = RGB[:, :, 0]
BGR = RGB[:, :, ::-1]
GREY_BGR = np.repeat(GREY[:, :, None], 3, axis=2)
WIDE = GREY.astype(np.uint16) * 256 + 200  # 16 bits, of which the lower half must not round up
MASK = RGB[:, :, 2] > 127
RGBA = np.dstack([RGB, 255 - GREY])
JPEG = save(RGB, "JPEG", quality=95)
TURNED = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


def pillow(data: bytes) -> np.ndarray:
    """Decode a plain JPEG, WebP or JPEG 2000 of lossy pixels with Pillow itself."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[:, :, ::-1]


def flat(colour: tuple[int, ...], mode: str, kind: str, **options: object) -> bytes:
    return save(Image.new(mode, (16, 16), colour), kind, **options)


def flat_bgr(*colour: int) -> np.ndarray:
    return np.full((16, 16, 3), colour, np.uint8)


def palette(kind: str = "PNG", **options: object) -> bytes:
    """Six colours of a palette in stripes."""
    image = Image.fromarray(np.repeat(np.arange(6, dtype=np.uint8)[None], 4, axis=0), "L")
    image.putpalette([value for index in range(6) for value in (index * 40, 10, 255 - index)])
    return save(image, kind, **options)


STRIPES = np.repeat(np.array([[[255 - i, 10, i * 40] for i in range(6)]], np.uint8), 4, axis=0)


def frames(kind: str, **options: object) -> bytes:
    others = [Image.fromarray(np.ascontiguousarray(RGB[:, ::-1])), Image.fromarray(255 - RGB)]
    return save(RGB, kind, save_all=True, append_images=others, **options)


def ycck() -> bytes:
    """A JPEG of luma, chroma and black: the Adobe segment says so in its last byte."""
    inverted = tuple(255 - value for value in (76, 85, 255, 255))  # as Pillow writes CMYK
    data = flat(inverted, "CMYK", "JPEG", quality=100)
    place = data.index(b"Adobe") + 11
    return data[:place] + b"\x02" + data[place + 1 :]


def float_tiff(values: np.ndarray) -> bytes:
    return save(Image.fromarray(values.astype(np.float32)), "TIFF")


def raw_tiff(photometric: int, colour: tuple[int, int, int]) -> bytes:
    pixels = bytes(colour) * 256
    bits = 8 + len(pixels)  # three 16-bit numbers do not fit into a tag
    tags = {256: (3, 1, 16), 257: (3, 1, 16), 258: (3, 3, bits), 259: (3, 1, 1)}
    tags |= {262: (3, 1, photometric), 273: (4, 1, 8), 277: (3, 1, 3), 278: (3, 1, 16)}
    tags |= {279: (4, 1, len(pixels))}
    return tiff(tags, pixels + struct.pack("<HHH", 8, 8, 8))


def stretched(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    scaled = np.rint((values - low) * 255.0 / (high - low)).astype(np.uint8)
    return np.repeat(scaled[:, :, None], 3, axis=2)


DEEP = GREY.astype(np.int32) * 70_000 - 5_000_000
BITMAP = np.where(MASK, 255, 0).astype(np.uint8)
BITMAP_BGR = np.repeat(BITMAP[:, :, None], 3, axis=2)
BOX = Image.fromarray(RGB)
XMP = (
    b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF "
    b"xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description "
    b"xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation=\"6\"/></rdf:RDF></x:xmpmeta>"
)
PPM_16 = b"P5 18 12 65535\n" + WIDE.astype(">u2").tobytes()
GIF_CORNER = (  # canvas 3x2, first frame 1x1 at (2, 1): index 1 of a palette of two colours
    b"GIF89a\x03\0\x02\0\x80\0\0\x00\x00\x00\xc8\x64\x32,\x02\0\x01\0\x01\0\x01\0\0\x02\x02\x4c\x01\0;"
)
CORNER = np.zeros((2, 3, 3), np.uint8)
CORNER[1, 2] = (50, 100, 200)

ROWS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
NINE = np.full((1, 1, 3), 9, np.uint8)

# What it is: (the file, its pixels, by how much a pixel may differ).
GOOD: dict[str, tuple[Callable[[], bytes], np.ndarray, int]] = {
    "baseline JPEG": (lambda: JPEG, pillow(JPEG), 0),
    "JPEG of full colour resolution": (
        lambda: save(RGB, "JPEG", quality=100, subsampling=0),
        BGR,
        3,
    ),
    "progressive JPEG": (
        lambda: save(RGB, "JPEG", quality=95, progressive=True),
        pillow(save(RGB, "JPEG", quality=95, progressive=True)),
        0,
    ),
    "grey JPEG": (lambda: flat((90,), "L", "JPEG"), flat_bgr(90, 90, 90), 0),
    "CMYK JPEG with Adobe's inverted inks": (
        lambda: flat((0, 255, 255, 0), "CMYK", "JPEG", quality=100),
        flat_bgr(0, 0, 255),
        2,
    ),
    "CMYK JPEG without Adobe's segment": (
        lambda: without_segment(flat((0, 255, 255, 0), "CMYK", "JPEG", quality=100), 0xEE),
        flat_bgr(0, 0, 255),
        2,
    ),
    "YCCK JPEG": (ycck, flat_bgr(255, 255, 1), 2),
    "JPEG with restart markers": (
        lambda: save(RGB, "JPEG", quality=95, restart_marker_blocks=1),
        pillow(JPEG),
        0,
    ),
    "JPEG with a comment and an unknown segment": (
        lambda: with_segment(with_segment(JPEG, 0xFE, b"hello"), 0xEB, b"\xff\xd9" * 99),
        pillow(JPEG),
        0,
    ),
    "JPEG without Huffman tables, as in a video": (
        lambda: JPEG.replace(b"\xff\xc4", b"\xff\xea"),
        pillow(JPEG),
        0,
    ),
    "JPEG with a video behind its end": (lambda: JPEG + b"ftypmp42" * 99, pillow(JPEG), 0),
    "JPEG with zeros behind its end": (lambda: JPEG + bytes(4096), pillow(JPEG), 0),
    "JPEG with damaged EXIF": (
        lambda: with_segment(JPEG, 0xE1, b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\x99" * 40),
        pillow(JPEG),
        0,
    ),
    "JPEG with EXIF that ends after its name": (
        lambda: with_segment(JPEG, 0xE1, b"Exif\0\0"),
        pillow(JPEG),
        0,
    ),
    "JPEG with a damaged colour profile": (
        lambda: with_segment(JPEG, 0xE2, b"ICC_PROFILE\0\x01\x01" + b"nonsense" * 9),
        pillow(JPEG),
        0,
    ),
    "JPEG with a damaged Photoshop segment": (
        lambda: with_segment(JPEG, 0xED, b"Photoshop 3.0\x008BIM\x04\x04\xff\xff\xff"),
        pillow(JPEG),
        0,
    ),
    "JPEG with an orientation in XMP only": (
        lambda: with_segment(JPEG, 0xE1, XMP),
        np.rot90(pillow(JPEG), -1),
        0,
    ),
    "JPEG of two pictures (MPO)": (lambda: frames("MPO", quality=95), pillow(JPEG), 0),
    "MPO whose index is damaged": (
        lambda: with_segment(JPEG, 0xE2, b"MPF\0II*\0\x08\0\0\0\x01\0"),
        pillow(JPEG),
        0,
    ),
    "PNG in colours": (lambda: save(RGB, "PNG"), BGR, 0),
    "grey PNG": (lambda: save(GREY, "PNG"), GREY_BGR, 0),
    "grey PNG with opacity": (lambda: save(np.dstack([GREY, 255 - GREY]), "PNG"), GREY_BGR, 0),
    "PNG with opacity, which is dropped": (lambda: save(RGBA, "PNG"), BGR, 0),
    "PNG of one bit": (lambda: save(Image.fromarray(MASK), "PNG"), BITMAP_BGR, 0),
    "grey PNG of two bits": (
        lambda: png(4, 1, 2, 0, b"\0" + bytes([0b00011011])),
        np.array([[[0] * 3, [85] * 3, [170] * 3, [255] * 3]], np.uint8),
        0,
    ),
    "grey PNG with a transparent value": (
        lambda: png(18, 12, 8, 0, png_rows(GREY), before=chunk(b"tRNS", b"\0\0")),
        GREY_BGR,
        0,
    ),
    "PNG with a transparent colour": (
        lambda: png(18, 12, 8, 2, png_rows(RGB), before=chunk(b"tRNS", bytes(6))),
        BGR,
        0,
    ),
    "PNG with a palette": (palette, STRIPES, 0),
    "PNG with a palette of four bits": (lambda: palette(bits=4), STRIPES, 0),
    "PNG with a palette and one transparent colour": (lambda: palette(transparency=2), STRIPES, 0),
    "PNG with a palette and degrees of opacity": (
        lambda: palette(transparency=bytes([0, 50, 100, 150, 200, 255])),
        STRIPES,
        0,
    ),
    "grey PNG of 16 bits": (lambda: save(WIDE, "PNG"), GREY_BGR, 0),
    "PNG of 16 bits in colours": (
        lambda: png(18, 12, 16, 2, png_rows(RGB.astype(np.uint16) * 257)),
        BGR,
        0,
    ),
    "PNG of 16 bits with opacity": (
        lambda: png(18, 12, 16, 6, png_rows(RGBA.astype(np.uint16) * 257)),
        BGR,
        0,
    ),
    "grey PNG of 16 bits with opacity": (
        lambda: png(18, 12, 16, 4, png_rows(np.dstack([WIDE, WIDE]))),
        GREY_BGR,
        0,
    ),
    "interlaced PNG": (lambda: png(18, 12, 8, 2, adam7(RGB), interlaced=True), BGR, 0),
    "PNG with a damaged colour profile": (
        lambda: png(18, 12, 8, 2, png_rows(RGB), before=chunk(b"iCCP", b"x\0\0nonsense")),
        BGR,
        0,
    ),
    "PNG with bytes behind its end": (lambda: save(RGB, "PNG") + b"trailer", BGR, 0),
    "PNG with damaged EXIF": (lambda: save(RGB, "PNG", exif=b"Exif\0\0II*\0\x08\0"), BGR, 0),
    "animated PNG": (lambda: frames("PNG"), BGR, 0),
    "animated PNG with a still picture before it": (
        lambda: frames("PNG", default_image=True),
        BGR,
        0,
    ),
    "GIF": (lambda: palette("GIF"), STRIPES, 0),
    "GIF with a transparent colour": (lambda: palette("GIF", transparency=1), STRIPES, 0),
    "GIF with an animation": (
        lambda: palette("GIF", save_all=True, append_images=[Image.new("L", (6, 4), 7)]),
        STRIPES,
        0,
    ),
    "interlaced GIF": (lambda: save(Image.fromarray(GREY), "GIF", interlace=1), GREY_BGR, 0),
    "GIF whose first frame is a corner": (lambda: GIF_CORNER, CORNER, 0),
    "WebP without loss": (lambda: save(RGB, "WEBP", lossless=True), BGR, 0),
    "WebP with loss": (lambda: save(RGB, "WEBP"), pillow(save(RGB, "WEBP")), 0),
    "WebP with opacity": (lambda: save(RGBA, "WEBP", lossless=True, exact=True), BGR, 0),
    "animated WebP": (lambda: frames("WEBP", lossless=True), BGR, 0),
    "AVIF": (lambda: save(RGB, "AVIF", quality=100, subsampling="4:4:4"), BGR, 3),
    "JPEG 2000": (lambda: save(RGB, "JPEG2000"), BGR, 0),
    "grey JPEG 2000": (lambda: save(GREY, "JPEG2000"), GREY_BGR, 0),
    "JPEG 2000 as a bare codestream": (lambda: save(RGB, "JPEG2000", no_jp2=True), BGR, 0),
    "BMP": (lambda: save(RGB, "BMP"), BGR, 0),
    "BMP with a palette": (lambda: palette("BMP"), STRIPES, 0),
    "BMP of one bit": (lambda: save(Image.fromarray(MASK), "BMP"), BITMAP_BGR, 0),
    "BMP from the top down": (lambda: bmp(4, -4, 24, bytes(range(48))), ROWS, 0),
    "BMP of 32 bits": (lambda: bmp(1, 1, 32, bytes([1, 2, 3, 0])), np.uint8([[[1, 2, 3]]]), 0),
    "TIFF": (lambda: save(RGB, "TIFF"), BGR, 0),
    "TIFF with LZW": (lambda: save(RGB, "TIFF", compression="tiff_lzw"), BGR, 0),
    "TIFF with deflate": (lambda: save(RGB, "TIFF", compression="tiff_adobe_deflate"), BGR, 0),
    "TIFF with JPEG inside": (
        lambda: flat((10, 200, 90), "RGB", "TIFF", compression="jpeg", quality=100),
        flat_bgr(90, 200, 10),
        3,
    ),
    "TIFF of a fax": (
        lambda: save(Image.fromarray(MASK), "TIFF", compression="group4"),
        BITMAP_BGR,
        0,
    ),
    "TIFF of several pages": (lambda: frames("TIFF"), BGR, 0),
    "BigTIFF": (lambda: save(RGB, "TIFF", big_tiff=True), BGR, 0),
    "TIFF with opacity": (lambda: save(RGBA, "TIFF"), BGR, 0),
    "TIFF of 16 bits": (lambda: save(WIDE, "TIFF"), GREY_BGR, 0),
    "TIFF of 16 bits, big-endian": (
        lambda: save(Image.frombytes("I;16B", (18, 12), WIDE.astype(">u2").tobytes()), "TIFF"),
        GREY_BGR,
        0,
    ),
    "TIFF of 32 bits, stretched": (lambda: save(DEEP, "TIFF"), stretched(DEEP), 0),
    "TIFF of floats, stretched": (lambda: float_tiff(GREY / 1000), stretched(GREY / 1000), 1),
    "TIFF of floats that are all the same": (
        lambda: float_tiff(np.full((16, 16), 77.0)),
        flat_bgr(77, 77, 77),
        0,
    ),
    "TIFF of floats with NaN and infinity": (
        lambda: float_tiff(np.array([[0, 1, np.nan, np.inf, -np.inf]])),
        np.repeat(np.uint8([[0, 255, 0, 255, 0]])[:, :, None], 3, axis=2),
        0,
    ),
    "TIFF of floats that are all NaN": (
        lambda: float_tiff(np.full((16, 16), np.nan)),
        flat_bgr(0, 0, 0),
        0,
    ),
    "CMYK TIFF": (
        lambda: save(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "TIFF"),
        flat_bgr(0, 0, 255),
        0,
    ),
    "LAB TIFF": (lambda: raw_tiff(8, (137, 80, 70)), flat_bgr(0, 0, 255), 12),  # about pure red
    "PPM": (lambda: save(RGB, "PPM"), BGR, 0),
    "PGM": (lambda: save(GREY, "PPM"), GREY_BGR, 0),
    "PGM of 16 bits": (lambda: PPM_16, GREY_BGR, 0),
    "PBM": (lambda: save(Image.fromarray(MASK), "PPM"), BITMAP_BGR, 0),
    "PPM in plain text with a comment": (
        lambda: b"P3\n# by hand\n2 1\n255\n1 2 3\n4 5 6\n",
        np.uint8([[[3, 2, 1], [6, 5, 4]]]),
        0,
    ),
    "PGM whose greatest value is 100": (
        lambda: b"P5 2 1 100\n" + bytes([50, 100]),
        np.uint8([[[128] * 3, [255] * 3]]),
        1,
    ),
    "one pixel as PNG": (lambda: save(RGB[:1, :1], "PNG"), BGR[:1, :1], 0),
    "one pixel as JPEG": (lambda: save(Image.new("RGB", (1, 1), (9, 9, 9)), "JPEG"), NINE, 0),
    "one pixel as GIF": (lambda: save(Image.new("L", (1, 1), 9), "GIF"), np.uint8([[[9] * 3]]), 0),
    "a column of 60,000 pixels": (
        lambda: save(Image.new("L", (1, 60_000), 9), "JPEG"),
        np.full((60_000, 1, 3), 9, np.uint8),
        0,
    ),
    "a row of 60,000 pixels": (
        lambda: save(Image.new("L", (60_000, 1), 9), "PNG"),
        np.full((1, 60_000, 3), 9, np.uint8),
        0,
    ),
}


@pytest.mark.parametrize("what", GOOD)
def test_it_becomes_bgr(what: str) -> None:
    make, expected, tolerance = GOOD[what]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        pixels = decode(make())
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert not warned


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})],
)
def test_exif_orientation_is_applied(kind: str, options: dict, orientation: int) -> None:
    plain = save(RGB, kind, **options)
    turned = save(RGB, kind, exif=exif(orientation), **options)
    np.testing.assert_array_equal(decode(turned), TURNED[orientation](decode(plain)))


@pytest.mark.parametrize(
    "tag",
    [(3, 1, 0), (3, 1, 9), (3, 1, 65_535), (2, 4, int.from_bytes(b"six", "little"))],
    ids=["zero", "nine", "65,535", "a word"],
)
def test_an_orientation_that_does_not_exist_changes_nothing(tag: tuple[int, int, int]) -> None:
    turned = with_segment(JPEG, 0xE1, b"Exif\0\0" + tiff({0x0112: tag}))
    np.testing.assert_array_equal(decode(turned), pillow(JPEG))


def test_grey_of_16_bits_is_turned_too() -> None:
    turned = save(WIDE, "PNG", exif=exif(6))
    np.testing.assert_array_equal(decode(turned), np.rot90(GREY_BGR, -1))


def test_a_memoryview_is_as_good_as_bytes() -> None:
    np.testing.assert_array_equal(decode(memoryview(JPEG)), decode(JPEG))


def test_real_photographs_equal_pillows_pixels(shared: Path) -> None:
    for path in sorted((shared / "fixtures" / "butd").glob("*.jpg")):
        data = path.read_bytes()
        np.testing.assert_array_equal(decode(data), pillow(data))


def test_a_notebook_may_give_a_path_a_picture_or_an_array(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(save(RGB, "PNG", exif=exif(6)))
    expected = np.rot90(BGR, -1)
    for image in (path, str(path), Image.open(path), np.rot90(RGB, -1), np.rot90(RGBA, -1)):
        pixels = as_bgr(image)
        np.testing.assert_array_equal(pixels, expected)
        assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(as_bgr(GREY), GREY_BGR)
    np.testing.assert_array_equal(as_bgr(GREY[:, :, None]), GREY_BGR)


@pytest.mark.parametrize(
    "array",
    [RGB.astype(np.float32), RGB.transpose(2, 0, 1), RGB[None], RGB[:0], RGB[:, :, :2]],
    ids=["floats", "channels first", "a batch", "no rows", "two channels"],
)
def test_an_array_that_is_no_image_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="is not an image; pass uint8 RGB of shape"):
        as_bgr(array)
