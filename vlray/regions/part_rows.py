"""Which part of an output has which images, and some rows of a part: without unpacking it.

Shapes: M images that are asked for, P parts.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int64

from vlray import files
from vlray.regions import parts

THREADS = 16  # mostly waiting for object storage

COLUMNS = ("image_height", "image_width", "num_boxes", "boxes", "visual_feats")
LABEL_COLUMNS = ("obj_ids", "obj_probs", "attr_ids", "attr_probs")


@dataclass(frozen=True, eq=False)
class PartIndex:
    """The ids of an output's images by part; rows are numbered through in the parts' order.

    Attributes:
        output: The place of the output.
        shards: Of the parts, in their order.
        starts: Row of each part's first image, and at the end their number.
    """

    output: str
    shards: tuple[int, ...]
    starts: Int64[np.ndarray, P1]
    _ids: pa.ChunkedArray

    def __len__(self) -> int:
        """Give the number of images."""
        return int(self.starts[-1])

    def rows(self, image_ids: pa.ChunkedArray) -> Int64[np.ndarray, M]:
        """Find images by their ids; -1 where the output has no such image."""
        found = pc.fill_null(pc.index_in(image_ids, value_set=self._ids), -1)
        rows: np.ndarray = found.to_numpy().astype(np.int64)
        return rows

    def parts_of(self, rows: Int64[np.ndarray, M]) -> Int64[np.ndarray, M]:
        """Give the number of the part that has each row."""
        return np.searchsorted(self.starts, rows, side="right") - 1


def open_parts(output: str) -> PartIndex:
    """Read the ids of all parts.

    Args:
        output: A local path or a URI (``s3://...``, ``gs://...``).

    Raises:
        FileNotFoundError: There is no output at this place, or it has no parts yet.
    """
    fs, root = files.resolve(output)
    names = files.list_names(fs, files.join(root, parts.REGIONS))
    shards = sorted(shard for name in names if (shard := parts.shard_of(name)) is not None)
    if not shards:
        raise FileNotFoundError(
            f"{output} has no {parts.REGIONS}/part-*.parquet, so it is not an output of vlray "
            "with regions; give the folder that was the second argument of `vlray extract`"
        )

    def ids_of(shard: int) -> pa.ChunkedArray:
        path = files.join(root, parts.REGIONS, parts.part_name(shard))
        return pq.read_table(path, filesystem=fs, columns=["image_id"], partitioning=None)[0]

    with ThreadPoolExecutor(THREADS) as pool:
        ids = list(pool.map(ids_of, shards))
    starts = np.cumsum([0, *map(len, ids)])
    whole = pa.chunked_array([chunk for column in ids for chunk in column.chunks], pa.string())
    return PartIndex(output, tuple(shards), starts, whole)


def read_part(output: str, shard: int, rows: Int64[np.ndarray, M]) -> pa.Table:
    """Read some rows of a part: only the row groups that have them.

    Args:
        output: The place of the output.
        shard: Of the part.
        rows: Their numbers in the part, sorted.

    Returns:
        What a batch is made of: sizes, boxes, vectors where there are any, labels.
    """
    fs, root = files.resolve(output)
    path = files.join(root, parts.REGIONS, parts.part_name(shard))
    # A range of a row group's columns is one request to object storage, not one for each column.
    with pq.ParquetFile(path, filesystem=fs, pre_buffer=True) as part:
        names = [n for n in (*COLUMNS, *LABEL_COLUMNS) if n in part.schema_arrow.names]
        sizes = [part.metadata.row_group(i).num_rows for i in range(part.num_row_groups)]
        starts = np.cumsum([0, *sizes])
        group_of = np.searchsorted(starts, rows, side="right") - 1
        groups = np.unique(group_of)
        table = part.read_row_groups(groups.tolist(), columns=names)
    if len(rows) == len(table):
        return table
    kept = np.cumsum([0, *(sizes[group] for group in groups[:-1])])
    local = rows - starts[group_of] + kept[np.searchsorted(groups, group_of)]
    return table.take(pa.array(local))
