"""Files of an output folder, and their encoding.

::

    OUT/vlray.json                   provenance: detector, settings, images
    OUT/labels.json                  names of the object and attribute ids
    OUT/plan/plan-00000.parquet      the listing of images, divided into shards
    OUT/regions/part-00000.parquet   the regions of shard 0; its file marks the shard as done
    OUT/failures/part-00000.parquet  the failed images of shard 0, if any
    OUT/flags/part-00000.parquet     flags of images of a converted output, if any
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

REGIONS, FAILURES, PLAN, FLAGS = "regions", "failures", "plan", "flags"
SETTINGS, LABELS = "vlray.json", "labels.json"

# Small enough for cheap reads of one image, large enough to compress well.
ROW_GROUP_SIZE = 32

Compression = Literal["zstd", "none"]

DIGESTS = b"vlray.digests"
"""Metadata key of a part: JSON list of the digest of each row's image file at extraction; "" for a
file that could not be read."""


def part_name(shard: int) -> str:
    """Return the file name of a shard's part."""
    return f"part-{shard:05d}.parquet"


def shard_of(name: str) -> int | None:
    """Return the shard number in a part's file name; None for other files."""
    stem, _, suffix = name.partition(".")
    number = stem.removeprefix("part-")
    return int(number) if suffix == "parquet" and stem != number and number.isdigit() else None


def with_digests(table: pa.Table, digests: Sequence[str]) -> pa.Table:
    """Store the digest of each row's image file in a table's metadata."""
    data = json.dumps(list(digests)).encode()
    return table.replace_schema_metadata({**(table.schema.metadata or {}), DIGESTS: data})


def keep_digests(table: pa.Table, source: pa.Table) -> pa.Table:
    """Copy the digests from another table with the same rows."""
    digests = _digests(source.schema)
    return with_digests(table, digests) if digests else table


def take(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Select rows of a part, with their digests."""
    digests = _digests(table.schema)
    table = table.take(pa.array(rows)).combine_chunks()
    return with_digests(table, [digests[row] for row in rows]) if digests else table


def read_digests(fs: pafs.FileSystem, path: str) -> dict[str, str]:
    """Read the digests of a part by image id.

    Returns:
        Digests in row order, "" for a part of an older version; an empty dict without the part.
    """
    try:
        with fs.open_input_file(path) as file, pq.ParquetFile(file) as part:
            digests = _digests(part.schema_arrow)
            ids = part.read(columns=["image_id"], use_threads=False)["image_id"].to_pylist()
    except FileNotFoundError:
        return {}
    return dict(zip(ids, digests or [""] * len(ids), strict=True))


def _digests(schema: pa.Schema) -> list[str]:
    digests: list[str] = json.loads((schema.metadata or {}).get(DIGESTS, b"[]"))
    return digests


def encode_regions(table: pa.Table, compression: Compression) -> pa.Buffer:
    """Encode a regions table as a complete Parquet file in memory.

    For float32 vectors, byte stream split stores the exponents together, which compresses better.
    For float16 it would save 10 % too, but DuckDB cannot read it.
    """
    name = "visual_feats.list.element.list.element"
    wide = "visual_feats" in table.column_names and pa.types.is_float32(
        table.schema.field("visual_feats").type.value_type.value_type
    )
    # Only the column "split" repeats its values; dictionaries for the others would cost space.
    split = [name] if wide and compression == "zstd" else False
    return _encode(table, compression, use_byte_stream_split=split, use_dictionary=["split"])


def encode_plain(table: pa.Table) -> pa.Buffer:
    """Encode a table of strings and numbers (failures, the plan) as a Parquet file in memory."""
    return _encode(table, "zstd", row_group_size=1 << 20)


def _encode(
    table: pa.Table,
    compression: Compression,
    *,
    row_group_size: int = ROW_GROUP_SIZE,
    use_byte_stream_split: list[str] | bool = False,
    use_dictionary: list[str] | bool = True,
) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression=compression,
        row_group_size=row_group_size,
        use_byte_stream_split=use_byte_stream_split,
        use_dictionary=use_dictionary,
    )
    return sink.getvalue()
