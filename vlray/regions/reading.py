"""Read an output's small files, the image ids in its parts, and selected rows of a part.

Shapes: M: requested images.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from jaxtyping import Int64

from vlray.regions import parts
from vlray.regions.schema import Identity
from vlray.storage import files
from vlray.storage.damage import open_parquet, read_json

THREADS = 16  # many, since they mostly wait for object storage

COLUMNS = ("image_height", "image_width", "num_boxes", "boxes", "visual_feats")
LABEL_COLUMNS = ("obj_ids", "obj_probs", "attr_ids", "attr_probs")


@dataclass(frozen=True)
class Description:
    """Content of an output's small files.

    Attributes:
        about: Content of ``vlray.json``.
        obj_names, attr_names: Names indexed by id; empty until the first detector has started.
    """

    about: Identity
    obj_names: tuple[str, ...]
    attr_names: tuple[str, ...]


def describe(fs: pafs.FileSystem, root: str, uri: str) -> Description:
    """Read an output's small files, ``vlray.json`` and ``labels.json``.

    Raises:
        FileNotFoundError: The folder is not a vlray output.
    """
    try:
        about = read_json(fs, files.join(root, parts.SETTINGS), parts.RESTORE)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{uri} has no {parts.SETTINGS}, so it is not a vlray output; pass a folder written "
            "by `vlray extract` or `vlray convert`"
        ) from None
    try:
        obj_names, attr_names = read_labels(fs, files.join(root, parts.LABELS))
    except FileNotFoundError:  # the first detector has not started yet
        obj_names, attr_names = [], []
    return Description(about, tuple(obj_names), tuple(attr_names))


def read_labels(fs: pafs.FileSystem, path: str) -> tuple[list[str], list[str]]:
    """Read the names of the object and of the attribute ids from ``labels.json``.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged or foreign.
    """
    labels = read_json(fs, path, parts.RESTORE)
    obj_names, attr_names = labels.get("obj_names"), labels.get("attr_names")
    if not _are_names(obj_names) or not _are_names(attr_names):
        raise ValueError(
            f"{path} has another form: it needs lists of names under obj_names and attr_names; "
            f"{parts.RESTORE}"
        )
    return obj_names, attr_names


def _are_names(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def list_shards(fs: pafs.FileSystem, folder: str) -> list[int]:
    """List the numbers of the shards that have a part in the folder, sorted."""
    shards = (parts.shard_of(name) for name in files.list_names(fs, folder))
    return sorted(shard for shard in shards if shard is not None)


def read_ids(fs: pafs.FileSystem, root: str, shards: Sequence[int]) -> list[pa.ChunkedArray]:
    """Read the image ids in the parts of these shards, one column per shard."""

    def ids_of(shard: int) -> pa.ChunkedArray:
        path = files.join(root, parts.REGIONS, parts.part_name(shard))
        with open_parquet(fs, path, parts.REMOVE) as part:
            return part.read(columns=["image_id"], use_threads=False)["image_id"]

    # The pool reads several files in parallel, so each file is read with one thread.
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(ids_of, shards))


def read_rows(
    part: pq.ParquetFile, rows: Int64[np.ndarray, M], columns: Sequence[str] | None
) -> pa.Table:
    """Read selected rows of a part, by reading only the row groups that contain them.

    Args:
        part: Open part of an output.
        rows: Row numbers in the part, sorted and without repetition.
        columns: Columns to read; None: all.
    """
    sizes = [part.metadata.row_group(i).num_rows for i in range(part.num_row_groups)]
    starts = np.cumsum([0, *sizes])
    group_of = np.searchsorted(starts, rows, side="right") - 1
    groups = np.unique(group_of)
    names = None if columns is None else list(columns)
    table = part.read_row_groups(groups.tolist(), columns=names)
    if len(rows) == len(table):
        return table
    # Row numbers refer to the whole part, but `table` has only the rows of the selected groups.
    group_starts = np.cumsum([0, *(sizes[group] for group in groups[:-1])])
    local = rows - starts[group_of] + group_starts[np.searchsorted(groups, group_of)]
    return table.take(pa.array(local, pa.int64()))
