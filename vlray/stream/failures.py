"""The failures of an output: how many there are, and the reason of the first."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

import pyarrow.fs as pafs

from vlray.regions import parts
from vlray.storage import files
from vlray.storage.damage import open_parquet
from vlray.stream.plan import READERS


def _paths(fs: pafs.FileSystem, root: str) -> dict[int, str]:
    """Map each shard with failures to its file, in the order of the shards."""
    folder = files.join(root, parts.FAILURES)
    shards = {parts.shard_of(name): name for name in files.list_names(fs, folder)}
    return {shard: files.join(folder, name) for shard, name in shards.items() if shard is not None}


def count_failures(fs: pafs.FileSystem, root: str) -> tuple[int, str]:
    """Return the number of failed images of an output, and `first_failure` of them."""

    def rows(path: str) -> int:
        with open_parquet(fs, path, parts.REMOVE) as failures:
            return int(failures.metadata.num_rows)

    paths = _paths(fs, root)
    with ThreadPoolExecutor(READERS) as pool:
        return sum(pool.map(rows, paths.values())), first_failure(fs, root, paths)


def first_failure(fs: pafs.FileSystem, root: str, shards: Collection[int]) -> str:
    """Return the path of the first failed image of some shards, and the reason.

    Returns:
        ``PATH: REASON``; empty if no image failed.
    """
    for shard, path in _paths(fs, root).items():
        if shard not in shards:
            continue
        with open_parquet(fs, path, parts.REMOVE) as failures:
            rows = failures.read(columns=["path", "reason"]).slice(0, 1).to_pylist()
        if rows:
            return f"{rows[0]['path']}: {rows[0]['reason']}"
    return ""
