"""Boxes of a user's own: every form gives the same, and what is wrong is said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.regions.user_box_files import CORNERS
from vlray.regions.user_boxes import describe_invalid_box, gather, read_boxes

# Of COCO_train2014_000000084002.jpg and its neighbour in the published TSV; float32 cannot hold
# all of these exactly.
BOXES = {
    "84002": [[0.0, 250.7, 638.93, 478.93], [12.1, 0.0, 404.37, 112.03], [16, 16, 32.5, 48]],
    "7": [[1.25, 2.5, 3.75, 5.0]],
}
ROWS = [(name, box) for name, boxes in BOXES.items() for box in boxes]


def coco_ids(names: Sequence[str]) -> list[str]:
    return [str(int(Path(name).stem.rpartition("_")[2])) for name in names]


def rows_table() -> pa.Table:
    columns = dict(zip(CORNERS, zip(*(box for _, box in ROWS), strict=True), strict=True))
    return pa.table({"image_id": [name for name, _ in ROWS], "score": [0.5] * len(ROWS)} | columns)


def lists_table(kind: pa.DataType, ids: pa.DataType) -> pa.Table:
    boxes = pa.array(list(BOXES.values()), pa.list_(pa.list_(pa.float64()))).cast(kind)
    return pa.table({"image_id": pa.array(list(BOXES)).cast(ids), "boxes": boxes})


def coco() -> dict[str, Any]:
    """COCO's JSON; its ids of images are none of ours."""
    return {
        "images": [
            {"id": number, "file_name": f"train2014/COCO_train2014_{int(name):012d}.jpg"}
            for number, name in enumerate(BOXES)
        ],
        "annotations": [
            {"id": 1, "image_id": [*BOXES].index(name), "bbox": [x, y, x2 - x, y2 - y]}
            for name, (x, y, x2, y2) in ROWS
        ],
    }


def write(form: str, path: Path) -> None:
    if form in ("csv", "tsv"):
        options = pacsv.WriteOptions(delimiter="," if form == "csv" else "\t")
        pacsv.write_csv(rows_table(), path, options)
    elif form == "csv of lists":
        lines = [f'{name},"{json.dumps(boxes)}"' for name, boxes in BOXES.items()]
        path.write_text("\n".join(["image_id,boxes", *lines]))
    elif form == "parquet of rows":
        pq.write_table(rows_table(), path)
    elif form == "parquet of lists":
        pq.write_table(lists_table(pa.list_(pa.list_(pa.float64())), pa.int64()), path)
    elif form == "parquet of float32":
        kind = pa.list_(pa.list_(pa.float32(), 4))
        pq.write_table(lists_table(kind, pa.large_string()), path)
    elif form == "json lines":
        records = [{"image_id": int(name), "boxes": boxes} for name, boxes in BOXES.items()]
        path.write_text("\n".join(map(json.dumps, records)) + "\n\n")
    elif form == "json lines of rows":
        records = [dict(zip(CORNERS, box, strict=True)) | {"image_id": n} for n, box in ROWS]
        path.write_text("\r\n".join(map(json.dumps, records)))
    elif form == "json":
        path.write_text(json.dumps([{"image_id": n, "boxes": b} for n, b in BOXES.items()]))
    elif form == "coco":
        path.write_text(json.dumps(coco()))
    elif form == "coco results":
        results = [
            {"image_id": int(name), "category_id": 1, "bbox": [x, y, x2 - x, y2 - y], "score": 1}
            for name, (x, y, x2, y2) in ROWS
        ]
        path.write_text(json.dumps(results))


FORMS = [
    "csv", "tsv", "csv of lists", "parquet of rows", "parquet of lists", "parquet of float32",
    "json lines", "json lines of rows", "json", "coco", "coco results",
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_told_by_its_content_and_gives_the_same_boxes(
    form: str, tmp_path: Path
) -> None:
    path = tmp_path / "boxes"  # no extension helps
    write(form, path)
    found = read_boxes(str(path), coco_ids)
    assert found.image_ids.to_pylist() == ["7", "84002"]
    expected = [np.array(BOXES[name], np.float32).tolist() for name in ("7", "84002")]
    assert found.boxes.to_pylist() == expected
    assert len(found) == 4
    write("csv", tmp_path / "other")
    assert found.sha256 == read_boxes(str(tmp_path / "other"), coco_ids).sha256


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(1, 2**24)), min_size=1))
def test_boxes_of_an_image_keep_their_order_wherever_their_rows_are(
    rows: list[tuple[str, int]],
) -> None:
    corners = np.array([[0, 0, number, number] for _, number in rows], np.float64)
    found = gather(pa.array([name for name, _ in rows]), corners)
    for name, boxes in zip(found.image_ids.to_pylist(), found.boxes.to_pylist(), strict=True):
        assert [box[2] for box in boxes] == [number for other, number in rows if other == name]
    ids = pa.chunked_array([["c", "x"], ["a"]])
    for name, boxes in zip(["c", "x", "a"], found.of(ids).to_pylist(), strict=True):
        numbers = [number for other, number in rows if other == name]
        assert (boxes is None) == (not numbers)
        assert len(boxes or []) == len(numbers)
    assert found.not_among(ids) == sorted({name for name, _ in rows} - {"a", "c", "x"})


def test_another_box_order_or_image_is_another_hash() -> None:
    corners = np.array([[0, 0, 2, 2], [0, 0, 3, 3], [0, 0, 4, 4]], np.float64)
    names = ["a", "a", "b"]
    variants = [
        (names, corners),
        (names, corners[[1, 0, 2]]),
        (names, corners + 1e-3),
        (["a", "b", "b"], corners),
        (["a", "a", "c"], corners),
    ]
    hashes = [gather(pa.array(ids), boxes).sha256 for ids, boxes in variants]
    assert len(set(hashes)) == len(variants)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "hello\nworld",
            r"no supported box format; pass one of these:\n  a table .*\n.*\n  COCO's JSON",
        ),
        (
            "image_id,left,top\n1,2,3\n",
            r"has the columns image_id, left, top, which are not boxes; pass one of these:\n",
        ),
        ("image_id,x1,y1,x2,y2\n1,2,3,b,5\n", "conversion error to double: invalid value 'b'"),
        ("image_id,x1,y1,x2,y2\n1,0,0,5,5\n,0,0,5,5\n", "row 1 has no image_id"),
        ("image_id,boxes\n1,[5 5 6 6]\n", r"boxes of a CSV file must be JSON"),
        ("image_id,x1,y1,x2,y2\n", "contains no boxes"),
        (
            "image_id,x1,y1,x2,y2\n1,0.1,0.2,0.9,1\n",
            "all coordinates in .* are at most 1, so .*fractions",
        ),
        (
            '{"image_id": 1, "boxes": [[1, 2, 3, 4]]}\n{"image_id": 2,\n',
            "line 2 of .* is not valid JSON",
        ),
        (
            '[{"image_id": 1, "boxes": [[1, 2, 3]]}]',
            r'record 0, \{"image_id": 1, .*is not an image',
        ),
        ('[{"image_id": 1, "boxes": [[1, 2, 3, "4"]]}]', "record 0"),
        ('[{"image_id": null, "boxes": [[1, 2, 3, 4]]}]', "record 0"),
        ('[{"image_id": 1}]', "record 0"),
        ("[1, 2", "is not valid JSON"),
        pytest.param("[" * 20_000, "is not valid JSON: maximum recursion", id="deep"),
        pytest.param('{"a":' * 20_000, "line 1 of .* is not valid JSON: max", id="deep lines"),
        pytest.param(f"image_id,boxes\n1,{'[' * 20_000}\n", "must be JSON", id="deep cells"),
        ('{"images": [{"id": 1}], "annotations": []}', "images without 'file_name'"),
        (
            '{"images": [], "annotations": [{"image_id": 5, "bbox": [1, 2, 3, 4]}]}',
            "annotation 0 has image_id 5, but no image in the file",
        ),
        (
            '{"images": [{"id": 5, "file_name": "5.jpg"}], "annotations": [{"image_id": 5}]}',
            "record 0",
        ),
    ],
)
def test_what_holds_no_boxes_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "boxes").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_boxes(str(tmp_path / "boxes"), coco_ids)


def test_other_tables_folders_and_missing_files_are_refused_with_the_forms(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image_id": ["1"], "bbox": [[1.0]]}), tmp_path / "other.parquet")
    with pytest.raises(
        ValueError,
        match=r"has the columns image_id, bbox, which are not boxes; pass one of these:\n  a table",
    ):
        read_boxes(str(tmp_path / "other.parquet"), coco_ids)
    with pytest.raises(ValueError, match=r"is not a vlray output; pass one of these:\n  a table"):
        read_boxes(str(tmp_path), coco_ids)
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; pass one of these"):
        read_boxes(str(tmp_path / "nowhere"), coco_ids)
    triple = pa.table({"image_id": ["1"], "boxes": [[[1.0, 2.0, 3.0]]]})
    pq.write_table(triple, tmp_path / "triple.parquet")
    with pytest.raises(ValueError, match="without the four numbers"):
        read_boxes(str(tmp_path / "triple.parquet"), coco_ids)


def test_images_without_boxes_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "boxes.parquet"
    boxes = pa.array([[], None, [[1, 2, 3, 4]]], pa.list_(pa.list_(pa.int64())))
    table = pa.table({"image_id": ["a", "b", "c"], "boxes": boxes})
    pq.write_table(table, path)
    assert read_boxes(str(path), coco_ids).image_ids.to_pylist() == ["c"]
    pq.write_table(table.slice(0, 2), path)
    with pytest.raises(ValueError, match="contains no boxes"):
        read_boxes(str(path), coco_ids)


def test_ids_are_text_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text("image_id,x1,y1,x2,y2\n007,1,2,3,4\nNA,1,2,3,4\n1e3,1,2,3,4\n")
    assert read_boxes(str(path), coco_ids).image_ids.to_pylist() == ["007", "1e3", "NA"]
    floats = pa.table({"image_id": [84002.0], "boxes": [[[1.0, 2.0, 3.0, 4.0]]]})
    pq.write_table(floats, path)  # what pandas makes of whole numbers with gaps
    assert read_boxes(str(path), coco_ids).image_ids.to_pylist() == ["84002"]


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ([0, 0, 640, 480], ""),
        ([-1, -0.5, 641, 481], ""),  # a pixel beyond
        ([-1.5, 0, 10, 10], "outside its 640x480 image"),
        ([0, 0, 480, 640], "outside its 640x480 image"),
        ([640.2, 10, 640.9, 20], "outside"),
        ([-1, 0, -0.5, 10], "outside"),
        ([10, 10, 10, 20], "empty"),
        ([20, 10, 10, 20], "empty"),
        ([10, np.nan, 20, 20], "not finite"),
        ([10, 10, np.inf, 20], "not finite"),
    ],
)
def test_a_box_that_cannot_be_pooled_is_named(box: list[float], problem: str) -> None:
    boxes = np.array([[0, 0, 5, 5], box, [1, 1, 2, 2]], np.float32)
    said = describe_invalid_box(boxes, 480, 640)
    assert said.startswith("box 1 of 3 is [") if problem else said == ""
    assert problem in said


@pytest.mark.parametrize(
    "document",
    [
        {"images": [{"id": [1], "file_name": "a.jpg"}], "annotations": []},
        {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": [1]}]},
        {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": ["x"]},
        {"images": [7], "annotations": []},
    ],
)
def test_entries_of_coco_that_are_not_of_its_form_are_refused(
    document: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"boxes\.json has"):
        read_boxes(str(path), lambda names: list(names))
