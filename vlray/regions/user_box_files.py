"""Read rows of boxes from the forms that people have them in; the form is told by the content.

Shapes: M boxes of all images.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from pyarrow.fs import FileType

from vlray.regions import parts
from vlray.regions.output import open_output
from vlray.storage import files

FORMS = """\
  a table (Parquet, CSV, TSV or JSON lines) with the columns image_id, x1, y1, x2, y2: a row a box
  such a table with the columns image_id, boxes: a row an image, boxes is [[x1, y1, x2, y2], ...]
  COCO's JSON with images and annotations, or COCO's list of results; bbox is x, y, width, height
  the folder of an output of vlray; `vlray convert` makes one of other tools' region files"""
CORNERS = ["x1", "y1", "x2", "y2"]

Rows = tuple[pa.Array, np.ndarray]
"""M ids (strings) and (M, 4) corners; the boxes of an image in their order."""


def read_rows(place: str, name_images: Callable[[Sequence[str]], list[str]]) -> Rows:
    """Read the boxes of a file or of an output.

    Args:
        place: A local path or a URI.
        name_images: Turns names of files into image ids, for COCO's JSON.

    Raises:
        ValueError: It is of none of the forms; all of them are listed. Or a row of it is wrong.
        OSError: It cannot be read.
    """
    fs, path = files.resolve(place)
    with files.explained(place):
        kind = fs.get_file_info(path).type
    if kind == FileType.NotFound:
        raise FileNotFoundError(f"there is no {place}; boxes are given as\n{FORMS}")
    if kind == FileType.Directory:
        return _from_output(place, fs, path)
    data = files.read_bytes(fs, path)
    if data[:4] == b"PAR1":
        return _from_parquet(data, place)
    data = data.removeprefix(codecs.BOM_UTF8)
    if data.lstrip()[:1] in (b"{", b"["):
        return _from_json(data, place, name_images)
    header = data.partition(b"\n")[0].replace(b'"', b"").strip()
    for delimiter in (",", "\t"):
        if b"image_id" in header.split(delimiter.encode()):
            return _from_csv(data, delimiter, place)
    raise ValueError(f"{place} holds boxes in no form that vlray knows; give\n{FORMS}")


def _from_output(place: str, fs: Any, path: str) -> Rows:
    if parts.SETTINGS not in files.list_names(fs, path):
        raise ValueError(f"the folder {place} is no output of vlray; give boxes as\n{FORMS}")
    batches = open_output(place).iter_batches(["image_id", "boxes"], batch_size=4096)
    empty = pa.table({"image_id": pa.array([], pa.string()), "boxes": pa.array([], _LISTS)})
    tables = [_from_table(pa.Table.from_batches([batch]), place) for batch in batches]
    tables.append(_from_table(empty, place))
    ids, boxes = zip(*tables, strict=True)
    return pa.concat_arrays(ids), np.concatenate(boxes)


_LISTS = pa.list_(pa.list_(pa.float64()))


def _from_parquet(data: bytes, place: str) -> Rows:
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            wanted = [n for n in ("image_id", "boxes", *CORNERS) if n in file.schema_arrow.names]
            table = file.read(columns=wanted) if wanted else pa.table({})
            return _from_table(table, place, file.schema_arrow.names)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{place} is a damaged Parquet file: {error}") from error


def _from_csv(data: bytes, delimiter: str, place: str) -> Rows:
    types = {"image_id": pa.string()} | dict.fromkeys(CORNERS, pa.float64())
    try:
        table = pacsv.read_csv(
            pa.BufferReader(data),
            parse_options=pacsv.ParseOptions(delimiter=delimiter),
            # An id may be "NA"; only an empty cell is none.
            convert_options=pacsv.ConvertOptions(column_types=types),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{place}: {error}") from error
    if "boxes" in table.column_names:  # pandas writes a list as its text
        texts = table["boxes"].to_pylist()
        try:
            lists = [json.loads(text) for text in texts]
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{place}: boxes of a CSV file are JSON, [[x1, y1, x2, y2], ...] ({error}); better "
                "give a row for each box with x1, y1, x2, y2"
            ) from error
        return _from_records(
            [
                {"image_id": name, "boxes": boxes}
                for name, boxes in zip(table["image_id"].to_pylist(), lists, strict=True)
            ],
            place,
        )
    return _from_table(table, place)


def _from_table(table: pa.Table, place: str, names: Sequence[str] = ()) -> Rows:
    names = names or table.column_names
    if "image_id" not in names or not ({"boxes"} <= set(names) or set(CORNERS) <= set(names)):
        raise ValueError(f"{place} has the columns {', '.join(names)}; give\n{FORMS}")
    image_ids = _strings(table["image_id"].combine_chunks(), place)
    try:
        if set(CORNERS) <= set(names):
            columns = [table[name].combine_chunks().cast(pa.float64()) for name in CORNERS]
            corners = [column.to_numpy(zero_copy_only=False) for column in columns]  # null: NaN
            return image_ids, np.stack(corners, axis=1)
        lists = table["boxes"].combine_chunks().cast(_LISTS)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"{place}: {error}; boxes are numbers. Give\n{FORMS}") from error
    inner = lists.flatten()
    fours = pc.fill_null(pc.equal(pc.list_value_length(inner), 4), False)
    if not pc.all(fours, min_count=0).as_py():
        raise ValueError(f"{place} has a box that is not of four numbers x1, y1, x2, y2")
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    repeated = image_ids.take(pa.array(np.repeat(np.arange(len(lists)), counts), pa.int64()))
    return repeated, inner.flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)


def _strings(image_ids: pa.Array, place: str) -> pa.Array:
    """Spell ids as text; whole numbers are written without a point, whatever their type."""
    if pa.types.is_floating(image_ids.type):
        try:
            image_ids = image_ids.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise ValueError(f"{place} has an image_id that is no whole number: {error}") from error
    texts = image_ids.cast(pa.string()).fill_null("")
    if (row := texts.index("").as_py()) >= 0:
        raise ValueError(f"{place}: row {row} has no image_id; name the image of each box")
    return texts


def _from_json(data: bytes, place: str, name_images: Callable[[Sequence[str]], list[str]]) -> Rows:
    try:
        found = json.loads(data)
    except ValueError as error:
        if data.lstrip()[:1] == b"[":
            raise ValueError(f"{place} is no JSON: {error}") from error
        found = _json_lines(data, place)
    if isinstance(found, dict) and "annotations" in found:
        return _from_coco(found, place, name_images)
    records = found if isinstance(found, list) else [found]
    return _from_records(records, place)


def _json_lines(data: bytes, place: str) -> list[Any]:
    records = []
    for number, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"line {number} of {place} is no JSON: {error}") from error
    return records


def _from_coco(
    found: dict[str, Any], place: str, name_images: Callable[[Sequence[str]], list[str]]
) -> Rows:
    try:
        numbers = [image["id"] for image in found["images"]]
        names = name_images([image["file_name"] for image in found["images"]])
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{place} has annotations, but images without {error}; COCO's JSON names each image's "
            "id and file_name"
        ) from error
    by_number = dict(zip(numbers, names, strict=True))
    records = []
    for row, annotation in enumerate(found["annotations"]):
        if annotation.get("image_id") not in by_number:
            raise ValueError(
                f"{place}: annotation {row} is of image {annotation.get('image_id')!r}, which is "
                "none of its images"
            )
        bbox = annotation.get("bbox")
        records.append({"image_id": by_number[annotation["image_id"]], "bbox": bbox})
    return _from_records(records, place)


def _from_records(records: Sequence[Any], place: str) -> Rows:
    image_ids: list[str] = []
    corners: list[Sequence[float]] = []
    for row, record in enumerate(records):
        try:
            boxes = _boxes_of(record)
            image_ids += [_string(record["image_id"])] * len(boxes)
        except (KeyError, TypeError, ValueError) as error:
            shown = json.dumps(record)
            raise ValueError(
                f"{place}: record {row}, {shown[:120]}{'...' * (len(shown) > 120)}, holds no boxes "
                f"of an image; give\n{FORMS}"
            ) from error
        corners += boxes
    return pa.array(image_ids, pa.string()), np.array(corners, np.float64).reshape(-1, 4)


def _boxes_of(record: Any) -> list[list[float]]:
    """Take the boxes of one record; null and NaN stay, as NaN, and are refused with their image."""
    if "boxes" in record:
        boxes = record["boxes"]
    elif "bbox" in record:
        x, y, width, height = map(_number, record["bbox"])
        return [[x, y, x + width, y + height]]
    else:
        boxes = [[record[name] for name in CORNERS]]
    found = [[_number(value) for value in box] for box in boxes]
    if any(len(box) != 4 for box in found):
        raise ValueError("a box has four numbers")
    return found


def _number(value: Any) -> float:
    if isinstance(value, str):
        raise TypeError(f"{value!r} is no number")
    return np.nan if value is None else float(value)


def _string(image_id: Any) -> str:
    if isinstance(image_id, float) and image_id.is_integer():
        image_id = int(image_id)
    if isinstance(image_id, bool) or not isinstance(image_id, str | int):
        raise TypeError(f"{image_id!r} is no id")
    return str(image_id)
