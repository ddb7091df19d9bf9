"""The data between the stages: one Ray Data row per shard.

Ray Data must neither split a shard nor merge it with another one. A shard is therefore one row,
whose cells contain whole tables as Arrow streams. Unpacking does not copy: the tables stay in the
object store.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from vlray.regions.schema import BOX

ImageRow = dict[str, Any]
"""A row of `DECODED`, as `image_rows` yields it."""

DECODED = pa.schema(
    [
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("split", pa.string()),
        ("image_height", pa.int32()),  # of the original image, after EXIF rotation
        ("image_width", pa.int32()),
        ("pixels", pa.large_binary()),  # null if decoding failed
        ("shape", pa.list_(pa.int32(), 3)),
        ("dtype", pa.string()),
        ("digest", pa.string()),  # of the file's content; null if it could not be read
        ("boxes", pa.list_(BOX)),  # user boxes; null: the detector finds boxes
        ("stage", pa.string()),  # stage at which the image failed; null if it did not
        ("error", pa.string()),
        ("reason", pa.string()),
    ]
)


def pack(shard: int, **tables: pa.Table) -> pa.Table:
    """Pack the tables of one shard into one row; each table becomes a cell."""
    columns = {"shard": pa.array([shard], pa.int32())}
    for name, table in tables.items():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        columns[name] = _cell(sink.getvalue())
    return pa.table(columns)


def unpack(row: pa.Table) -> tuple[int, dict[str, pa.Table]]:
    """Return the shard number and the tables of a row; the inverse of `pack`."""
    if row.num_rows != 1:
        raise AssertionError(f"a stage received {row.num_rows} shards at once instead of 1")
    tables = {
        name: pa.ipc.open_stream(_content(row[name])).read_all()
        for name in row.column_names
        if name != "shard"
    }
    return int(row["shard"][0].as_py()), tables


def image_rows(table: pa.Table) -> Iterator[ImageRow]:
    """Yield the rows of a `DECODED` table as dictionaries.

    ``image`` is a copy of the (H, W, C) pixels, which a detector may modify; None if decoding
    failed. ``boxes`` is an (R, 4) array of user boxes in pixels of the original image, or None.
    """
    names = [name for name in table.column_names if name != "pixels"]
    for index, row in enumerate(table.select(names).to_pylist()):
        row["image"] = None
        if row["boxes"] is not None:
            row["boxes"] = np.array(row["boxes"], np.float32).reshape(-1, 4)
        if row["error"] is None:
            pixels = table["pixels"][index].as_buffer()
            row["image"] = np.frombuffer(pixels, row["dtype"]).reshape(row["shape"])
        yield row


def _content(cell: pa.ChunkedArray) -> pa.Buffer:
    """Return a column's only value without the copy that ``cell[0].as_buffer()`` makes."""
    # Layout of a large_binary array: validity, 64-bit offsets, data.
    (array,) = (chunk for chunk in cell.chunks if len(chunk))
    _, offsets, data = array.buffers()
    begin, end = np.frombuffer(offsets, np.int64)[array.offset : array.offset + 2]
    return data.slice(begin, end - begin)


def _cell(buffer: pa.Buffer) -> pa.Array:
    """Wrap a buffer as an array of one binary value, without a copy."""
    offsets = pa.py_buffer(np.array([0, buffer.size], np.int64).tobytes())
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, buffer])
