"""Files that are read with other limits, left out, or named with the way out."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from tests.images.encoded import chunk, save
from vlray.config.extract import ExtractConfig
from vlray.images.decode import ImageError, decode
from vlray.images.find import list_images
from vlray.stream.command import _summary
from vlray.stream.decode import DecodeShard
from vlray.stream.decoder import Decoder
from vlray.stream.run import ExtractResult

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
PNG = save(PIXELS, "PNG")
AFTER_HEADER = 33


def with_chunk(kind: bytes, content: bytes) -> bytes:
    return PNG[:AFTER_HEADER] + chunk(kind, content) + PNG[AFTER_HEADER:]


BIG = bytes(PngImagePlugin.MAX_TEXT_CHUNK + 1)


@pytest.mark.parametrize(
    "data",
    [
        with_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(BIG)),
        with_chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(BIG)),
        with_chunk(b"iCCP", b"profile\0\0" + zlib.compress(BIG)),
        with_chunk(b"tEXt", b"Comment\0" + b"x" * (PngImagePlugin.MAX_TEXT_MEMORY + 1)),
    ],
    ids=["zTXt", "iTXt", "iCCP", "tEXt"],
)
def test_a_png_with_long_texts_or_profiles_is_decoded(data: bytes) -> None:
    np.testing.assert_array_equal(decode(data), PIXELS[..., ::-1])


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypmif1", "HEIC"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n", "JPEG XL"),
        (b"8BPS\0\1", "PSD"),
        (b"II*\0\x10\0\0\0CR\2\0", "a camera's RAW format"),
        (b"\0\0\0\x18ftypcrx ", "a camera's RAW format"),
    ],
)
def test_formats_that_are_not_read_are_named_with_the_way_out(start: bytes, name: str) -> None:
    with pytest.raises(ImageError, match="convert them to JPEG or PNG") as caught:
        decode(start + bytes(100))
    assert caught.value.reason.startswith(f"{name}: ")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b_small.png", "thumbs/c.png", "sub/@eaDir/d.png", "__MACOSX/e.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS).save(path)
    return tmp_path


def test_patterns_leave_out_names_and_paths_and_are_counted(folder: Path) -> None:
    every = list_images(str(folder))
    assert every.table["path"].to_pylist() == ["a.png", "b_small.png", "thumbs/c.png"]
    assert every.excluded == 2
    some = list_images(str(folder), exclude=("*_small.*", "thumbs/"))
    assert some.table["path"].to_pylist() == ["a.png"]
    assert some.excluded == 4
    assert list_images(str(folder), exclude=("thumbs/*.png",)).table.num_rows == 2


def test_a_folder_that_cannot_be_listed_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refused(path: str) -> object:
        if path.endswith("thumbs"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr("os.scandir", refused)  # root may read every folder
    listing = list_images(str(folder))
    assert listing.unreadable == ("thumbs/",)
    assert listing.table.num_rows == 2
    with pytest.raises(ValueError, match=r"folders that cannot be listed \(thumbs/\)"):
        list_images(str(folder), exclude=("*.png",))

    # The count is repeated at the end of a run, and where nothing was left to do.
    config = ExtractConfig(images={"root": str(folder)}, output={"path": "out"})  # type: ignore[arg-type]
    for images in (0, 2):
        result = ExtractResult("out", 2, images=images, seconds=1, unlisted=listing.unreadable)
        said = "1 folder could not be listed (thumbs/), so their images are missing"
        assert said in _summary(result, config)


def test_patterns_apply_to_the_lines_of_a_list(folder: Path, tmp_path: Path) -> None:
    lines = ["a.png", "b_small.png", str(folder / "thumbs" / "c.png"), "sub/@eaDir/d.png"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    root = str(tmp_path / "list.txt")
    listing = list_images(root, exclude=("*_small.*", "thumbs"))
    assert listing.table["path"].to_pylist() == ["a.png", "sub/@eaDir/d.png"]  # named, so wanted
    assert listing.excluded == 2
    with pytest.raises(ValueError, match=r"besides 4 that patterns leave out \(--exclude\)"):
        list_images(root, exclude=("*.png",))


def test_pipes_devices_links_to_themselves_and_giants_are_failures(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "good.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "fifo.jpg").symlink_to(tmp_path / "pipe")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    with (tmp_path / "giant.jpg").open("wb") as giant:
        giant.truncate(1 << 40)
    images = list_images(str(tmp_path)).table.select(["image_id", "path", "split"])
    assert images.num_rows == 5
    stage = DecodeShard(images, str(tmp_path), 10**6, None)
    from vlray.storage import files

    fs, root = files.resolve(str(tmp_path))
    decoder = Decoder(10**6, None)
    rows = {row["image_id"]: stage._row(row, fs, root, decoder) for row in images.to_pylist()}
    reasons = {name: row.get("reason", "") for name, row in rows.items()}
    assert reasons["good"] == ""
    assert reasons["fifo"] == reasons["device"] == "not a file but a device, a pipe or a socket"
    assert "symbolic links" in reasons["loop"]
    assert reasons["giant"].startswith("the file has 1,099,511,627,776 bytes, more than the limit")
