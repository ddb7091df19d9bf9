"""Read user boxes from common file formats, which are detected from the content.

Shapes: M: boxes of all images together.
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
from pyarrow.fs import FileSystem, FileType

from vlray.regions import parts
from vlray.regions.output import open_output
from vlray.storage import files

FORMATS = """\
  a table (Parquet, CSV, TSV, JSON lines) with the columns image_id, x1, y1, x2, y2: a row per box
  such a table with the columns image_id, boxes: a row per image; boxes is [[x1, y1, x2, y2], ...]
  COCO's JSON with images and annotations, or COCO's results; bbox is x, y, width, height
  an output folder of vlray; `vlray convert` makes one from other tools' region files"""
CORNERS = ["x1", "y1", "x2", "y2"]

Rows = tuple[pa.Array, np.ndarray]
"""M image ids (strings) and (M, 4) corners; each image's boxes keep their order."""


def read_rows(source: str, name_images: Callable[[Sequence[str]], list[str]]) -> Rows:
    """Read the boxes in a file or in a vlray output.

    Args:
        source: A local path or a URI.
        name_images: Function that maps file names to image ids, for COCO's JSON.

    Raises:
        ValueError: The source has none of the formats (the message lists them), or a row is
            invalid.
        OSError: The source does not exist or cannot be read.
    """
    fs, path = files.resolve(source)
    with files.explained(source):
        kind = fs.get_file_info(path).type
    if kind == FileType.NotFound:
        raise FileNotFoundError(f"{source} does not exist; pass one of these:\n{FORMATS}")
    if kind == FileType.Directory:
        return _from_output(source, fs, path)
    data = files.read_bytes(fs, path)
    if data[:4] == b"PAR1":  # Parquet's magic number
        return _from_parquet(data, source)
    # Some programs, such as Excel, write a byte order mark.
    data = data.removeprefix(codecs.BOM_UTF8)
    if data.lstrip()[:1] in (b"{", b"["):
        return _from_json(data, source, name_images)
    # Column names may be quoted.
    header = data.partition(b"\n")[0].replace(b'"', b"").strip()
    for delimiter in (",", "\t"):
        if b"image_id" in header.split(delimiter.encode()):
            return _from_csv(data, delimiter, source)
    raise ValueError(f"{source} has no supported box format; pass one of these:\n{FORMATS}")


def _from_output(source: str, fs: FileSystem, path: str) -> Rows:
    if parts.SETTINGS not in files.list_names(fs, path):
        raise ValueError(
            f"the folder {source} is not a vlray output; pass one of these:\n{FORMATS}"
        )
    batches = open_output(source).iter_batches(["image_id", "boxes"], batch_size=4096)
    empty = pa.table({"image_id": pa.array([], pa.string()), "boxes": pa.array([], _LISTS)})
    tables = [_from_table(pa.Table.from_batches([batch]), source) for batch in batches]
    # An output without rows yields no batches, but concatenation needs at least one.
    tables.append(_from_table(empty, source))
    ids, boxes = zip(*tables, strict=True)
    return pa.concat_arrays(ids), np.concatenate(boxes)


_LISTS = pa.list_(pa.list_(pa.float64()))


def _from_parquet(data: bytes, source: str) -> Rows:
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            columns = [n for n in ("image_id", "boxes", *CORNERS) if n in file.schema_arrow.names]
            table = file.read(columns=columns) if columns else pa.table({})
            return _from_table(table, source, file.schema_arrow.names)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{source} is a damaged Parquet file: {error}") from error


def _from_csv(data: bytes, delimiter: str, source: str) -> Rows:
    types = {"image_id": pa.string()} | dict.fromkeys(CORNERS, pa.float64())
    try:
        table = pacsv.read_csv(
            pa.BufferReader(data),
            parse_options=pacsv.ParseOptions(delimiter=delimiter),
            # Ids are strings, so "NA" is an id; only an empty id is missing.
            convert_options=pacsv.ConvertOptions(column_types=types),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{source}: {error}") from error
    if "boxes" in table.column_names:  # pandas writes lists to CSV as text
        texts = table["boxes"].to_pylist()
        try:
            lists = [json.loads(text) for text in texts]
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{source}: the column boxes of a CSV file must be JSON, [[x1, y1, x2, y2], ...] "
                f"({error}). Correct it, or write one row per box with x1, y1, x2, y2"
            ) from error
        return _from_records(
            [
                {"image_id": name, "boxes": boxes}
                for name, boxes in zip(table["image_id"].to_pylist(), lists, strict=True)
            ],
            source,
        )
    return _from_table(table, source)


def _from_table(table: pa.Table, source: str, names: Sequence[str] = ()) -> Rows:
    names = names or table.column_names
    if "image_id" not in names or not ({"boxes"} <= set(names) or set(CORNERS) <= set(names)):
        raise ValueError(
            f"{source} has the columns {', '.join(names)}, which are not boxes; pass one of "
            f"these:\n{FORMATS}"
        )
    image_ids = _strings(table["image_id"].combine_chunks(), source)
    try:
        if set(CORNERS) <= set(names):
            columns = [table[name].combine_chunks().cast(pa.float64()) for name in CORNERS]
            corners = [column.to_numpy(zero_copy_only=False) for column in columns]  # null: NaN
            return image_ids, np.stack(corners, axis=1)
        lists = table["boxes"].combine_chunks().cast(_LISTS)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(
            f"{source}: boxes must be numbers ({error}); pass one of these:\n{FORMATS}"
        ) from error
    inner = lists.flatten()
    fours = pc.fill_null(pc.equal(pc.list_value_length(inner), 4), False)
    # By default, pc.all returns null for an empty column.
    if not pc.all(fours, min_count=0).as_py():
        raise ValueError(f"{source} has a box without the four numbers x1, y1, x2, y2")
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    repeated = image_ids.take(pa.array(np.repeat(np.arange(len(lists)), counts), pa.int64()))
    return repeated, inner.flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)


def _strings(image_ids: pa.Array, source: str) -> pa.Array:
    """Convert ids to strings; whole numbers stored as floats get no decimal point."""
    if pa.types.is_floating(image_ids.type):
        try:
            image_ids = image_ids.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"{source} has a numeric image_id that is not an integer: {error}"
            ) from error
    texts = image_ids.cast(pa.string()).fill_null("")
    if (row := texts.index("").as_py()) >= 0:
        raise ValueError(f"{source}: row {row} has no image_id, which every box needs")
    return texts


def _from_json(data: bytes, source: str, name_images: Callable[[Sequence[str]], list[str]]) -> Rows:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        if data.lstrip()[:1] == b"[":
            raise ValueError(f"{source} is not valid JSON: {error}") from error
        # Several documents, one per line, are not valid JSON as a whole.
        document = _json_lines(data, source)
    if isinstance(document, dict) and "annotations" in document:
        return _from_coco(document, source, name_images)
    # JSON lines with a single line are valid JSON: one record.
    records = document if isinstance(document, list) else [document]
    return _from_records(records, source)


def _json_lines(data: bytes, source: str) -> list[object]:
    records = []
    for number, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            try:
                records.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number} of {source} is not valid JSON: {error}") from error
    return records


def _from_coco(
    document: dict[str, Any], source: str, name_images: Callable[[Sequence[str]], list[str]]
) -> Rows:
    try:
        numbers = [image["id"] for image in document["images"]]
        names = name_images([image["file_name"] for image in document["images"]])
        by_number = dict(zip(numbers, names, strict=True))
        image_ids = [annotation.get("image_id") for annotation in document["annotations"]]
        unknown = next((row for row, number in enumerate(image_ids) if number not in by_number), -1)
    except AttributeError as error:
        raise ValueError(f"{source} has an annotation that is not an object: {error}") from error
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{source} has images without {error}; in COCO's JSON, each image has id and file_name"
        ) from error
    if unknown >= 0:
        raise ValueError(
            f"{source}: annotation {unknown} has image_id {image_ids[unknown]!r}, but no image in "
            "the file has this id"
        )
    records = [
        {"image_id": by_number[number], "bbox": annotation.get("bbox")}
        for number, annotation in zip(image_ids, document["annotations"], strict=True)
    ]
    return _from_records(records, source)


def _from_records(records: Sequence[Any], source: str) -> Rows:
    image_ids: list[str] = []
    corners: list[Sequence[float]] = []
    for row, record in enumerate(records):
        try:
            boxes = _boxes_of(record)
            image_ids += [_string(record["image_id"])] * len(boxes)
        except (KeyError, TypeError, ValueError) as error:
            text = json.dumps(record)
            raise ValueError(
                f"{source}: record {row}, {text[:120]}{'...' * (len(text) > 120)}, is not an "
                f"image with boxes; pass one of these:\n{FORMATS}"
            ) from error
        corners += boxes
    return pa.array(image_ids, pa.string()), np.array(corners, np.float64).reshape(-1, 4)


def _boxes_of(record: Any) -> list[list[float]]:
    """Return the boxes in one record; null becomes NaN, so that the image is refused later."""
    if "boxes" in record:
        boxes = record["boxes"]
    elif "bbox" in record:
        x, y, width, height = map(_number, record["bbox"])
        return [[x, y, x + width, y + height]]
    else:
        boxes = [[record[name] for name in CORNERS]]
    corners = [[_number(value) for value in box] for box in boxes]
    if any(len(box) != 4 for box in corners):
        raise ValueError("a box must have four numbers")
    return corners


def _number(value: Any) -> float:
    # float() would accept numeric text.
    if isinstance(value, str):
        raise TypeError(f"{value!r} is not a number")
    return np.nan if value is None else float(value)


def _string(image_id: object) -> str:
    if isinstance(image_id, float) and image_id.is_integer():
        image_id = int(image_id)
    # bool is a subclass of int.
    if isinstance(image_id, bool) or not isinstance(image_id, str | int):
        raise TypeError(f"an image id must be a string or an integer, but is {image_id!r}")
    return str(image_id)
