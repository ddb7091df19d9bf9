"""The files of an output folder, and how one of them is written.

::

    OUT/vlray.json                   what made it: detector, settings, images
    OUT/labels.json                  names of the object and attribute ids
    OUT/plan/plan-00000.parquet      the listing, cut into shards
    OUT/regions/part-00000.parquet   the regions of shard 0; being there means the shard is done
    OUT/failures/part-00000.parquet  the images of shard 0 that failed, where there are any
    OUT/flags/part-00000.parquet     of a converted output: its doubtful images, where there are any
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

# Small enough that reading one image of a file is cheap, large enough to compress well.
ROW_GROUP_SIZE = 32

Compression = Literal["zstd", "none"]

DIGESTS = b"vlray.digests"
"""Key of a part's metadata: the digest of each row's image file as it was read, in JSON; empty
where it could not be read."""


def part_name(shard: int) -> str:
    """Give the file name of a shard's part."""
    return f"part-{shard:05d}.parquet"


def shard_of(name: str) -> int | None:
    """Give the shard of a part's file name; None for any other file."""
    stem, _, suffix = name.partition(".")
    number = stem.removeprefix("part-")
    return int(number) if suffix == "parquet" and stem != number and number.isdigit() else None


def with_digests(table: pa.Table, digests: Sequence[str]) -> pa.Table:
    """Keep the digest of the file of each row in a table's metadata."""
    data = json.dumps(list(digests)).encode()
    return table.replace_schema_metadata({**(table.schema.metadata or {}), DIGESTS: data})


def keep_digests(table: pa.Table, source: pa.Table) -> pa.Table:
    """Keep the digests of another table, which has the same rows."""
    digests = _digests(source.schema)
    return with_digests(table, digests) if digests else table


def take(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Take rows of a part, and the digests that belong to them."""
    digests = _digests(table.schema)
    table = table.take(pa.array(rows)).combine_chunks()
    return with_digests(table, [digests[row] for row in rows]) if digests else table


def read_digests(fs: pafs.FileSystem, path: str) -> dict[str, str]:
    """Read the digests of a part by image id, empty ones of a part of an older version.

    Returns:
        In the order of the rows; nothing where there is no part.
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

    Byte stream split puts the exponents of float32 vectors side by side, which makes zstd's result
    smaller. For float16 it would save a tenth as well, but DuckDB cannot read it.
    """
    name = "visual_feats.list.element.list.element"
    wide = "visual_feats" in table.column_names and pa.types.is_float32(
        table.schema.field("visual_feats").type.value_type.value_type
    )
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
