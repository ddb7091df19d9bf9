"""Damaged files, files that are no images, and bombs: each is refused with its reason."""

from __future__ import annotations

import contextlib
import gzip
import pickle
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from tests.images.encoded import bmp, chunk, colours, png, png_rows, save, tiff, with_segment
from vlray.images.decode import ImageError, as_bgr, decode

RGB = colours()
NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
JPEG = save(NOISE, "JPEG")
PROGRESSIVE = save(NOISE, "JPEG", progressive=True)
PNG = save(NOISE, "PNG")
LITTLE = save(RGB, "PNG")
GIF = save(Image.fromarray(NOISE[:, :, 0]), "GIF")
WEBP = save(NOISE, "WEBP")
TIFF = save(NOISE, "TIFF")
HEADER = slice(8, 33)  # of a PNG


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def replaced(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def png_of_size(width: int, height: int) -> bytes:
    return png(width, height, 8, 2, b"\0" + bytes(30))


def gif(width: int, height: int, frame: bytes = b"") -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(6) + frame + b";"


def tiff_of(**changed: tuple[int, int, int]) -> bytes:
    names = {"width": 256, "height": 257, "bits": 258, "compression": 259, "offset": 273}
    tags = {256: (3, 1, 4), 257: (3, 1, 4), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1)}
    tags |= {273: (4, 1, 8), 278: (3, 1, 4), 279: (4, 1, 16)}
    return tiff(tags | {names[name]: value for name, value in changed.items()}, bytes(16))


# What it is: (the file, what its reason says).
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "no bytes at all": (lambda: b"", "the file is empty (0 bytes)"),
    "one byte": (lambda: b"\xff", "the file begins with bytes ff"),
    "zeros": (lambda: bytes(5000), "the file begins with bytes 00 00 00"),
    "a text": (lambda: b"hello world", "the file begins with 'hello world'"),
    "a web page that says 404": (
        lambda: b"<!DOCTYPE html>\n<title>404</title>" + b" " * 500,
        r"the file begins with '<!DOCTYPE html>\n<title>404</titl'",
    ),
    "JSON": (
        lambda: b'{"error": "no such key"}',
        """the file begins with '{"error": "no such key"}'""",
    ),
    "a text in UTF-16": (
        lambda: "hello".encode("utf-16"),
        "the file begins with bytes ff fe 68 00",
    ),
    "a pointer of Git LFS": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
        "the file begins with 'version https://git-lfs.github.c'",
    ),
    "a gzip file": (lambda: gzip.compress(JPEG), "the file begins with bytes 1f 8b 08"),
    "an image in base64": (
        lambda: b"iVBORw0KGgoAAAANSUhEUg",
        "begins with 'iVBORw0KGgoAAAANSUhEUg'",
    ),
    "a PDF": (lambda: b"%PDF-1.7\n", r"the file begins with '%PDF-1.7\n'"),
    "PostScript, which is not run": (
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "the file begins with '%!PS-Adobe-3.0 EPSF-3.0",
    ),
    "SVG": (lambda: b"<svg width='9'/>", """the file begins with "<svg width='9'/>\""""),
    "a video": (lambda: b"\0\0\0\x20ftypisom" + bytes(99), "begins with bytes 00 00 00 20 66"),
    "an icon": (lambda: save(RGB, "ICO"), "not an image of a format that vlray reads"),
    "a Photoshop file": (
        lambda: b"8BPS\0\x01" + bytes(99),
        "PSD: vlray does not read such files; convert them to JPEG or PNG",
    ),
    "a JPEG behind a line of text": (lambda: b"\r\n" + JPEG, "not an image of a format that vlray"),
    # JPEG
    "a JPEG of three bytes": (lambda: JPEG[:3], "JPEG: the header is damaged"),
    "a JPEG cut off in its header": (lambda: JPEG[:100], "JPEG: Truncated File Read"),
    "half a JPEG": (lambda: half(JPEG), "JPEG of 60x40 pixels: the file is cut off"),
    "half a progressive JPEG": (lambda: half(PROGRESSIVE), "60x40 pixels: the file is cut off"),
    "half a JPEG that has a whole thumbnail": (
        lambda: half(with_segment(JPEG, 0xE1, b"thumbnail" + save(RGB, "JPEG"))),
        "JPEG of 60x40 pixels: the file is cut off",
    ),
    "a JPEG without its end": (lambda: JPEG[:-2], "JPEG of 60x40 pixels: the file is cut off"),
    "a JPEG whose second half is zeros": (
        lambda: half(JPEG) + bytes(len(JPEG) // 2),
        "JPEG of 60x40 pixels: the file is cut off",
    ),
    "a JPEG whose segment is longer than the file": (
        lambda: JPEG[:2] + b"\xff\xe1\xff\xff" + JPEG[2:50],
        "JPEG: Truncated File Read",
    ),
    "a JPEG without pixels": (
        lambda: JPEG[: JPEG.index(b"\xff\xda")] + b"\xff\xd9",
        "JPEG of 60x40 pixels: cannot load this image",
    ),
    "a JPEG with 12 bits": (
        lambda: replaced(JPEG, JPEG.index(b"\xff\xc0") + 4, b"\x0c"),
        "JPEG: the header is damaged, cut off or of a rare kind",
    ),
    "a JPEG of height 0": (
        lambda: replaced(JPEG, JPEG.index(b"\xff\xc0") + 5, b"\0\0"),
        "JPEG: the header is damaged, cut off or of a rare kind",
    ),
    # PNG
    "a PNG's signature alone": (lambda: PNG[:8], "PNG: the header is damaged"),
    "half a PNG": (lambda: half(PNG), "PNG of 60x40 pixels: "),
    "a PNG without its end": (lambda: PNG[:-12], "PNG of 60x40 pixels: "),
    "a PNG whose header has a wrong checksum": (
        lambda: replaced(PNG, 29, b"\0\0\0\0"),
        "PNG: the header is damaged",
    ),
    "a PNG whose pixels have a wrong checksum": (
        lambda: replaced(PNG, len(PNG) - 16, b"\0\0\0\0"),
        "PNG of 60x40 pixels: broken PNG file (bad header checksum in b'IDAT')",
    ),
    "a PNG with one wrong bit": (
        lambda: replaced(PNG, 2000, bytes([PNG[2000] ^ 4])),
        "PNG of 60x40 pixels: broken PNG file (bad header checksum in b'IDAT')",
    ),
    "a PNG without pixels": (
        lambda: LITTLE[:33] + chunk(b"IEND", b"PNG of 18x12 pixels: damaged file (IndexError"),
        "",
    ),
    "a PNG of width 0": (
        lambda: png_of_size(0, 10),
        "PNG: the header is damaged, cut off or of a rare kind",
    ),
    "a PNG of a kind that does not exist": (
        lambda: png(4, 4, 8, 5, png_rows(RGB[:4, :4])),
        "PNG: the header is damaged, cut off or of a rare kind",
    ),
    "a PNG of garbage that is compressed well": (
        lambda: LITTLE[:33] + chunk(b"IDAT", b"garbage!") + chunk(b"IEND", b""),
        "PNG of 18x12 pixels: ",
    ),
    # GIF, WebP, AVIF, JPEG 2000
    "half a GIF": (lambda: half(GIF), "GIF of 60x40 pixels: "),
    "a GIF without a frame": (
        lambda: gif(5, 5),
        "GIF: the header is damaged, cut off or of a rare kind",
    ),
    "a GIF of size 0": (
        lambda: gif(0, 0, b",\0\0\0\0\0\0\0\0\0\x02\x02\x4c\x01\0"),
        "GIF: the header is damaged, cut off or of a rare kind",
    ),
    "half a WebP": (lambda: half(WEBP), "WebP: could not create decoder object"),
    "a WebP whose chunk is damaged": (
        lambda: replaced(WEBP, 12, b"XXXX"),
        "WebP: the header is damaged, cut off or of a rare kind",
    ),
    "a sound file, which begins like WebP": (
        lambda: b"RIFF\x24\0\0\0WAVEfmt " + bytes(28),
        "not an image of a format that vlray reads",
    ),
    "half an AVIF": (
        lambda: half(save(NOISE, "AVIF")),
        "AVIF: the header is damaged, cut off or of a rare kind",
    ),
    "half a JPEG 2000": (
        lambda: half(save(NOISE, "JPEG2000")),
        "JPEG2000 of 60x40 pixels: broken data stream",
    ),
    # TIFF
    "half a TIFF": (lambda: half(TIFF), "TIFF of 60x40 pixels: "),
    "half a TIFF with LZW": (
        lambda: half(save(NOISE, "TIFF", compression="tiff_lzw")),
        "TIFF: the header is damaged, cut off or of a rare kind",
    ),
    "a TIFF whose directory lies behind its end": (
        lambda: b"II*\0\xff\xff\xff\x7f" + bytes(99),
        "TIFF: the header is damaged, cut off or of a rare kind",
    ),
    "a TIFF without tags": (
        lambda: tiff({}),
        "TIFF: the header is damaged, cut off or of a rare kind",
    ),
    "a TIFF of an unknown compression": (
        lambda: tiff_of(compression=(3, 1, 9999)),
        "TIFF: the header is damaged, cut off or of a rare kind",
    ),
    "a TIFF of 7 bits": (
        lambda: tiff_of(bits=(3, 1, 7)),
        "TIFF: the header is damaged, cut off or of a rare kind",
    ),
    "a TIFF whose pixels lie behind its end": (
        lambda: tiff_of(offset=(4, 1, 999_999)),
        "TIFF of 4x4 pixels: ",
    ),
    "a TIFF of width 0": (
        lambda: tiff_of(width=(3, 1, 0)),
        "TIFF: the header is damaged, cut off or of a rare kind",
    ),
    # BMP, PPM
    "half a BMP": (lambda: half(save(NOISE, "BMP")), "BMP of 60x40 pixels: "),
    "a BMP of an unknown compression": (
        lambda: bmp(2, 2, 24, bytes(16), compression=9),
        "BMP: Unsupported BMP compression (9)",
    ),
    "a BMP of 5 bits": (lambda: bmp(2, 2, 5, bytes(16)), "BMP: Unsupported BMP pixel depth (5)"),
    "half a PPM": (lambda: half(save(NOISE, "PPM")), "PPM of 60x40 pixels: "),
    "a PPM without sizes": (lambda: b"P6\n", "Reached EOF while reading header"),
    "a PPM with a size that is no number": (
        lambda: b"P6 a b 255\n" + bytes(9),
        "invalid literal for int()",
    ),
    "a PPM whose greatest value is 0": (
        lambda: b"P6 1 1 0\n" + bytes(3),
        "maxval must be greater than 0",
    ),
    "a plain PPM with a letter among its numbers": (
        lambda: b"P3 1 1 255\n1 x 3\n",
        "PPM of 1x1 pixels: invalid literal for int()",
    ),
    # too large
    "a PNG of 50,000 x 50,000 pixels": (
        lambda: png_of_size(50_000, 50_000),
        "PNG of 50000x50000 pixels: 2,500,000,000 pixels exceed the limit of 178,956,970; if it is "
        "a photograph and memory allows, raise --images.max-pixels",
    ),
    "a PNG as large as can be": (
        lambda: png_of_size(2**31 - 1, 2**31 - 1),
        "PNG of 2147483647x2147483647 pixels: 4,611,686,014,132,420,609 pixels exceed",
    ),
    "a JPEG of 65,500 x 65,500 pixels": (
        lambda: replaced(JPEG, JPEG.index(b"\xff\xc0") + 5, b"\xff\xdc\xff\xdc"),
        "JPEG of 65500x65500 pixels: 4,290,250,000 pixels exceed the limit",
    ),
    "a GIF of 65,535 x 65,535 pixels with a frame of one": (
        lambda: gif(65_535, 65_535, b",\0\0\0\0\1\0\1\0\0\x02\x02\x4c\x01\0"),
        "GIF of 65535x65535 pixels: 4,294,836,225 pixels exceed the limit",
    ),
    "a TIFF of 4 billion columns": (
        lambda: tiff_of(width=(4, 1, 2**32 - 1)),
        "4294967295x4 pixels: 17,179,869,180 pixels exceed the limit",
    ),
    "a BMP of 2 billion rows": (
        lambda: bmp(1, 2**31 - 1, 24, bytes(4)),
        "BMP of 1x2147483647 pixels: 2,147,483,647 pixels exceed the limit",
    ),
    "a PPM of a trillion pixels": (
        lambda: b"P6 1000000 1000000 255\n",
        "PPM of 1000000x1000000 pixels: 1,000,000,000,000 pixels exceed the limit",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_it_is_refused_with_its_reason(what: str) -> None:
    make, reason = BAD[what]
    data = make()
    began = time.thread_time()  # not what others compute meanwhile
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(ImageError) as caught:
            decode(data)
    assert reason in caught.value.reason
    assert 0 < len(caught.value.reason) < 400
    assert "\n" not in caught.value.reason
    assert time.thread_time() - began < 2
    assert not warned


def test_the_limit_is_ours_alone() -> None:
    assert decode(LITTLE, max_pixels=18 * 12).shape == (12, 18, 3)
    with pytest.raises(ImageError, match="216 pixels exceed the limit of 215"):
        decode(LITTLE, max_pixels=18 * 12 - 1)


def test_pillows_own_limit_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode(LITTLE).shape == (12, 18, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_cut_off_files_are_refused_though_another_library_wants_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for data in (JPEG, PNG, GIF, TIFF):
        with pytest.raises(ImageError):
            decode(half(data))
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_threads_leave_pillow_and_warnings_as_they_were() -> None:
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    # A text that is read with a warning: metadata of a TIFF that lies behind its end.
    warning = tiff({256: (3, 1, 4), 257: (3, 1, 4), 305: (2, 99, 9999)})

    def attempt(index: int) -> bool:
        try:
            return decode((JPEG, PNG, warning)[index % 3]).shape == (40, 60, 3)
        except ImageError:
            return False

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ThreadPoolExecutor(8) as pool:
            good = sum(pool.map(attempt, range(300)))
    assert good == 200
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_an_error_reaches_another_process() -> None:
    assert pickle.loads(pickle.dumps(ImageError("why"))).reason == "why"


def test_a_path_that_is_no_image_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(half(JPEG))
    with pytest.raises(ImageError, match="cut off"):
        as_bgr(tmp_path / "x.jpg")
    with pytest.raises(FileNotFoundError):
        as_bgr(tmp_path / "y.jpg")


def other_frames() -> dict[str, object]:
    return {"save_all": True, "append_images": [Image.fromarray(255 - NOISE)]}


WHOLE = {
    "JPEG": JPEG,
    "progressive JPEG": PROGRESSIVE,
    "MPO": save(NOISE, "MPO", **other_frames()),
    "PNG": PNG,
    "animated PNG": save(NOISE, "PNG", **other_frames()),
    "GIF": GIF,
    "animated GIF": save(NOISE, "GIF", **other_frames()),
    "WebP": WEBP,
    "WebP without loss": save(NOISE, "WEBP", lossless=True),
    "animated WebP": save(NOISE, "WEBP", **other_frames()),
    "AVIF": save(NOISE, "AVIF"),
    "JPEG 2000": save(NOISE, "JPEG2000"),
    "BMP": save(NOISE, "BMP"),
    "TIFF": TIFF,
    "TIFF with deflate": save(NOISE, "TIFF", compression="tiff_adobe_deflate"),
    "PPM": save(NOISE, "PPM"),
}
PIXELS = {name: decode(data) for name, data in WHOLE.items()}


@pytest.mark.parametrize("name", WHOLE)
@given(kept=st.floats(0, 1, exclude_max=True))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_file_that_is_cut_anywhere_gives_all_of_its_pixels_or_none(
    name: str, kept: float
) -> None:
    data = WHOLE[name]
    try:
        pixels = decode(data[: int(kept * len(data))])
    except ImageError:
        return
    np.testing.assert_array_equal(pixels, PIXELS[name])  # a later frame was lost, or a trailer


@pytest.mark.parametrize("name", WHOLE)
@given(place=st.floats(0, 1, exclude_max=True), junk=st.binary(min_size=1, max_size=8))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_junk_in_a_file_raises_nothing_but_image_errors(
    name: str, place: float, junk: bytes
) -> None:
    data = WHOLE[name]
    with contextlib.suppress(ImageError):
        pixels = decode(replaced(data, int(place * len(data)), junk), max_pixels=100_000)
        assert pixels.size <= 300_000


@pytest.mark.usefixtures("processes")
def test_too_little_memory_is_a_reason_too() -> None:
    program = (
        "import resource, sys; from vlray.images.decode import ImageError, decode\n"
        "data = sys.stdin.buffer.read();\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 50_000_000,) * 2)\n"
        "try: decode(data)\n"
        "except ImageError as error: print(error.reason)"
    )
    data = save(Image.new("L", (12_000, 12_000)), "PNG")
    result = subprocess.run(
        [sys.executable, "-c", program], input=data, capture_output=True, check=True
    )
    assert b"PNG of 12000x12000 pixels: not enough memory" in result.stdout
