"""Files in an output folder, and how they are encoded.

::

    OUT/vlray.json                   provenance: detector, settings, images
    OUT/labels.json                  object and attribute names, by id
    OUT/plan/plan-00000.parquet      listing of the images, divided into shards
    OUT/regions/part-00000.parquet   regions in shard 0; this file marks the shard as done
    OUT/failures/part-00000.parquet  failed images in shard 0, if any
    OUT/flags/part-00000.parquet     flags for images in shard 0 of an imported output, if any
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from vlray.storage.damage import open_parquet

REGIONS, FAILURES, PLAN, FLAGS = "regions", "failures", "plan", "flags"
SETTINGS, LABELS = "vlray.json", "labels.json"

RESTORE = "restore it from a copy, or make the output again in another folder"
"""What to do about a damaged file that cannot be made again."""
REMOVE = (
    "remove this file, and run the `vlray extract` or `vlray convert` that made the output again: "
    "it redoes only the images of this file"
)
"""What to do about a damaged file of regions or failures."""

# Images per row group: small enough for cheap reads of one image, large enough to compress well.
ROW_GROUP_SIZE = 32

Compression = Literal["zstd", "none"]

DIGESTS = b"vlray.digests"
"""Metadata key of a part. The value is a JSON list with the digest of each row's image file at
extraction, or "" if the file could not be read."""


def part_name(shard: int) -> str:
    """Return the name of a shard's Parquet file."""
    return f"part-{shard:05d}.parquet"


def shard_of(name: str) -> int | None:
    """Return the shard number in a part's file name; None if the file is not a part."""
    stem, _, suffix = name.partition(".")
    # If the prefix is missing, the stem and the number are equal.
    number = stem.removeprefix("part-")
    return int(number) if suffix == "parquet" and stem != number and number.isdigit() else None


def with_digests(table: pa.Table, digests: Sequence[str]) -> pa.Table:
    """Return the table with the digest of each row's image file in the metadata."""
    data = json.dumps(list(digests)).encode()
    return table.replace_schema_metadata({**(table.schema.metadata or {}), DIGESTS: data})


def keep_digests(table: pa.Table, source: pa.Table) -> pa.Table:
    """Return ``table`` with the digests from ``source``, which must have the same rows."""
    digests = _digests(source.schema)
    return with_digests(table, digests) if digests else table


def take(table: pa.Table, rows: np.ndarray) -> pa.Table:
    """Select rows from a part, with their digests."""
    digests = _digests(table.schema)
    table = table.take(pa.array(rows)).combine_chunks()
    return with_digests(table, [digests[row] for row in rows]) if digests else table


def read_digests(fs: pafs.FileSystem, path: str) -> dict[str, str]:
    """Read a part's digests, keyed by image id.

    Returns:
        Digests in row order, each "" if an older version wrote the part; an empty dict if the part
        does not exist.
    """
    try:
        with open_parquet(fs, path, REMOVE) as part:
            digests = _digests(part.schema_arrow)
            ids = part.read(columns=["image_id"], use_threads=False)["image_id"].to_pylist()
    except FileNotFoundError:
        return {}
    return dict(zip(ids, digests or [""] * len(ids), strict=True))


def _digests(schema: pa.Schema) -> list[str]:
    digests: list[str] = json.loads((schema.metadata or {}).get(DIGESTS, b"[]"))
    return digests


def check_unique(image_ids: pa.ChunkedArray, output: str) -> None:
    """Check that no image has two rows, of which only one would be read.

    Raises:
        ValueError: Images have several rows; the message names some.
    """
    if pc.count_distinct(image_ids).as_py() == len(image_ids):
        return
    counts = pc.value_counts(image_ids)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    raise ValueError(
        f"{output} has several rows for {len(repeated):,} images, such as "
        f"{', '.join(repeated[:3].to_pylist())}; remove the files in {REGIONS}/ that were copied "
        "there, or make the output again in another folder"
    )


def encode_regions(table: pa.Table, compression: Compression) -> pa.Buffer:
    """Encode a regions table as a complete Parquet file in memory.

    For float32 vectors, byte stream split stores the exponents together, so they compress better.
    For float16 vectors it would save 10 %, but DuckDB cannot read such files.
    """
    name = "visual_feats.list.element.list.element"
    wide = "visual_feats" in table.column_names and pa.types.is_float32(
        table.schema.field("visual_feats").type.value_type.value_type
    )
    # Only the column "split" has repeated values; dictionaries for other columns would waste space.
    split = [name] if wide and compression == "zstd" else False
    return _encode(table, compression, use_byte_stream_split=split, use_dictionary=["split"])


def encode_plain(table: pa.Table) -> pa.Buffer:
    """Encode a table without regions (failures, flags, plan) as a Parquet file in memory."""
    # These tables are small, so one row group suffices.
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
