from __future__ import annotations

import base64
import csv
from pathlib import Path

import numpy as np
import pytest

from tests.formats.written_text import Image, b64, write
from vlray.formats.readers.protocol import RawRegions, Unreadable
from vlray.formats.readers.tsv import COLUMNS_10, Tsv6Reader, Tsv10Reader
from vlray.formats.readers.vinvl import VinvlReader

IMAGES = [Image("COCO_1", (480, 640)), Image("b", (300, 200), 0), Image('say "x"', (50, 90), 3)]


def read(reader: Tsv10Reader | Tsv6Reader | VinvlReader) -> list[RawRegions | Unreadable]:
    return [item for _, item in reader.read()]


def ten(path: Path, *more: str) -> Path:
    return write(path / "ten.tsv", [*(image.tsv10() for image in IMAGES[:2]), *more])


def test_ten_columns_give_what_was_written(tmp_path: Path) -> None:
    first, empty = read(Tsv10Reader(ten(tmp_path)))
    assert isinstance(first, RawRegions)
    assert isinstance(empty, RawRegions)
    assert (first.image_id, first.image_hw) == ("COCO_1", (480, 640))
    np.testing.assert_array_equal(first.boxes, IMAGES[0].boxes)
    np.testing.assert_array_equal(first.visual_feats, IMAGES[0].feats)
    np.testing.assert_array_equal(first.obj_ids, IMAGES[0].objects)
    np.testing.assert_array_equal(first.attr_probs, IMAGES[0].attribute_probs)
    assert empty.boxes.shape == (0, 4)


def test_six_columns_have_the_width_before_the_height(tmp_path: Path) -> None:
    source = write(tmp_path / "six.tsv", [image.tsv6() for image in IMAGES[:2]])
    first = read(Tsv6Reader(source))[0]
    assert isinstance(first, RawRegions)
    assert first.image_hw == (480, 640)
    assert first.obj_ids is None
    np.testing.assert_array_equal(first.visual_feats, IMAGES[0].feats)


def test_each_text_form_is_told_by_its_content_alone(tmp_path: Path) -> None:
    sources = {
        Tsv10Reader: ten(tmp_path),
        Tsv6Reader: write(tmp_path / "six.tsv", [IMAGES[0].tsv6()]),
        VinvlReader: write(tmp_path / "vinvl.tsv", [IMAGES[0].vinvl(["cat"])]),
    }
    for reader in sources:
        assert [other for other, path in sources.items() if reader.recognizes(path)] == [reader]
    noise = tmp_path / "noise.tsv"
    noise.write_bytes(np.random.default_rng(0).bytes(4096))
    assert not any(reader.recognizes(noise) for reader in sources)
    assert not any(reader.recognizes(tmp_path) for reader in sources)


def test_a_form_that_a_file_is_not_of_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the format tsv6: the line has 10 columns instead of 6"):
        Tsv6Reader(ten(tmp_path))
    with pytest.raises(ValueError, match="does not have the format tsv10: the file is empty"):
        Tsv10Reader(write(tmp_path / "empty.tsv", []))


def test_reading_goes_on_from_any_position(tmp_path: Path) -> None:
    reader = Tsv10Reader(ten(tmp_path, *(image.tsv10() for image in IMAGES), "\r\n"))
    whole = list(reader.read())
    for index, (position, _) in enumerate(whole):
        rest = [item.image_id for _, item in reader.read(position)]
        assert rest == [item.image_id for _, item in whole[index + 1 :]]
    assert reader.end == (tmp_path / "ten.tsv").stat().st_size


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("features", "AAAA====A", "features is not valid base64"),
        (
            "features",
            b64([1.0, 2.0, 3.0], "<f4"),
            "12 bytes, which is not a multiple of 5 float32 vectors",
        ),
        ("boxes", b64(np.zeros((4, 4)), "<f4"), "boxes has 64 bytes, but 20 numbers require 80"),
        ("objects_id", b64([1, 2], "<i8"), "objects_id has 16 bytes, but 5 numbers require 40"),
        ("num_boxes", "many", "num_boxes must be a number, but is b'many'"),
        ("num_boxes", "-1", "num_boxes must be a non-negative integer, but is -1.0"),
        ("img_h", "nan", "img_h must be a number, but is b'nan'"),
        ("img_id", "", "the image id is empty"),
    ],
)
def test_a_damaged_field_spoils_its_row_only(
    field: str, value: str, reason: str, tmp_path: Path
) -> None:
    damaged = Image("damaged").tsv10(**{field: value})
    rows = read(Tsv10Reader(ten(tmp_path, damaged, IMAGES[2].tsv10())))
    assert [isinstance(row, RawRegions) for row in rows] == [True, True, False, True]
    assert isinstance(rows[2], Unreadable)
    assert reason in rows[2].reason


def test_a_line_that_was_cut_off_spoils_itself_only(tmp_path: Path) -> None:
    line = IMAGES[0].tsv10()
    cut = "\t".join(line.split("\t")[:6]) + "\n"
    rows = read(Tsv10Reader(ten(tmp_path, cut, line)))
    assert [isinstance(row, RawRegions) for row in rows] == [True, True, False, True]
    assert isinstance(rows[2], Unreadable)
    assert (rows[2].image_id, rows[2].reason) == ("COCO_1", "the line has 6 columns instead of 10")


def test_pythons_csv_module_and_we_read_the_same_ids(tmp_path: Path) -> None:
    source = tmp_path / "quoted.tsv"
    ids = ["plain", 'a"b', '"whole"', "tab\there", "caf\u00e9"]
    with source.open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t")
        for image_id in ids:
            row = IMAGES[0].tsv10().rstrip("\r\n").split("\t")
            writer.writerow([image_id, *row[1:]])
    assert [item.image_id for item in read(Tsv10Reader(source))] == ids


def test_a_header_floats_and_bytes_that_became_text_are_understood(tmp_path: Path) -> None:
    image = IMAGES[0]
    odd = image.tsv10(
        img_h="480.0",
        boxes=b64(image.boxes, "<f8"),
        objects_id=b64(image.objects, "<i4"),
        features=str(base64.b64encode(image.feats.tobytes())),
    )
    source = write(tmp_path / "odd.tsv", ["\t".join(COLUMNS_10) + "\n", odd])
    (row,) = read(Tsv10Reader(source))
    assert isinstance(row, RawRegions)
    np.testing.assert_array_equal(row.boxes, image.boxes)
    np.testing.assert_array_equal(row.obj_ids, image.objects)
    np.testing.assert_array_equal(row.visual_feats, image.feats)


def test_the_published_features_are_read(shared: Path) -> None:
    rows = read(Tsv10Reader(shared / "fixtures/butd/train2014_obj36.tsv"))
    assert len(rows) == 10
    for row in rows:
        assert isinstance(row, RawRegions)
        assert row.visual_feats.shape == (36, 2048)
        assert 0 <= row.visual_feats.min() < row.visual_feats.max() < 36


def test_a_row_glued_to_the_next_is_a_failure_of_its_own_id(tmp_path: Path) -> None:
    lines = [image.tsv6() for image in IMAGES]
    glued = lines[0].rstrip("\r\n")[:-20] + lines[1]
    source = write(tmp_path / "six.tsv", [lines[2], glued, lines[1]])
    _, row, last = read(Tsv6Reader(source))
    assert isinstance(row, Unreadable)
    assert (row.image_id, row.error) == ("COCO_1", "Damaged")
    assert "11 columns instead of 6; if a line end is missing" in row.reason
    assert isinstance(last, RawRegions)
