"""The plan of an output: its images, divided into shards.

A shard is the unit of work and of writing: its images are decoded, detected and written together,
and stored in one file. Shards depend on the listing only, never on timing. Runs therefore write the
same files in any order and after any number of crashes. Images that are added later become further
shards; existing shards keep their numbers.

The plan is append-only: each change adds a file, and only the last row of an image is valid. A
changed image gets a row in a new shard, and no longer belongs to its old shard.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from vlray.regions import parts
from vlray.regions.schema import PLAN
from vlray.storage import files
from vlray.storage.damage import open_parquet

READERS = 16  # threads that read small files

SCHEMA = pa.schema(
    [*PLAN, ("file_bytes", pa.int64()), ("mtime_ns", pa.int64()), ("place", pa.string())]
)
"""Columns of a plan: those of `PLAN`, the image file's fingerprint (null if unknown), and where
a member's bytes are in its archive (null for files)."""

MOVED = pa.schema([("shard", pa.int32()), ("image_id", pa.string()), ("to", pa.int32())])


@dataclass(frozen=True)
class ShardPlan:
    """All images of an output, processed or not, divided into shards. Created by `resolve`.

    Attributes:
        table: One row per image with the columns of `SCHEMA`, sorted by shard and path.
        stored: Number of plan files in the output.
        rows: All rows of these files, including superseded ones.
        moved: Former and current shards of moved images, with the columns of `MOVED`.
    """

    table: pa.Table
    stored: int
    rows: pa.Table
    moved: pa.Table

    @property
    def shards(self) -> int:
        """Number of shards, numbered from 0; some may have no images left."""
        return pc.max(self.table["shard"]).as_py() + 1 if self.table.num_rows else 0

    def sizes(self) -> np.ndarray:
        """Return the number of images in each shard."""
        return np.bincount(self.table["shard"].to_numpy(), minlength=self.shards)


def resolve(rows: pa.Table, stored: int) -> ShardPlan:
    """Create a plan from all stored rows, in the order in which they were stored."""
    if stored > 1:  # a single file has no image twice
        codes = rows["image_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        last = np.zeros(codes.max() + 1 if len(codes) else 0, np.int64)
        last[codes] = np.arange(len(codes))  # for equal indices, numpy keeps the last assignment
        if len(last) < len(codes):
            shard = rows["shard"].to_numpy()
            # Rows of images that a later row has moved to another shard.
            former = np.flatnonzero(shard != shard[last[codes]])
            moved = pa.table(
                [
                    rows["shard"].take(former),
                    rows["image_id"].take(former),
                    pa.array(shard[last[codes[former]]]),
                ],
                schema=MOVED,
            )
            table = rows.take(last).sort_by([("shard", "ascending"), ("path", "ascending")])
            return ShardPlan(table, stored, rows, moved)
    return ShardPlan(rows, stored, rows, MOVED.empty_table())


def load(fs: pafs.FileSystem, root: str) -> ShardPlan:
    """Read the plan of an output; a new output has an empty plan."""
    folder = files.join(root, parts.PLAN)
    names = sorted(name for name in files.list_names(fs, folder) if name.startswith("plan-"))
    tables = []
    for name in names:
        with open_parquet(fs, files.join(folder, name), parts.RESTORE) as part:
            tables.append(part.read())
    rows = pa.concat_tables([SCHEMA.empty_table(), *map(_with_fingerprints, tables)])
    return resolve(rows, len(names))


def _with_fingerprints(rows: pa.Table) -> pa.Table:
    """Add the columns that plans from older versions lack, filled with nulls."""
    for field in SCHEMA:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows.select(SCHEMA.names).cast(SCHEMA)


def extend(plan: ShardPlan, images: pa.Table, shard_size: int) -> pa.Table:
    """Divide images into new shards, numbered after the plan's last shard.

    Args:
        plan: The existing plan.
        images: Listing rows of new images and of images that leave their shards.
        shard_size: Maximum number of images per shard.

    Returns:
        The new rows of the plan. All images in a shard, and thus in a file, have the same split.
    """
    if not images.num_rows:
        return SCHEMA.empty_table()
    new = images.combine_chunks().sort_by([("split", "ascending"), ("path", "ascending")])
    split = pc.dictionary_encode(new["split"].combine_chunks()).indices.to_numpy()
    # Each split begins a new shard, so number the shards within each run of equal splits.
    starts = np.flatnonzero(np.concatenate([[True], split[1:] != split[:-1]]))
    lengths = np.diff(np.append(starts, new.num_rows))
    index = np.arange(new.num_rows) - np.repeat(starts, lengths)  # position within the split
    # Number of the first shard of each split; -(-a // b) rounds up.
    first = np.concatenate([[0], np.cumsum(-(-lengths // shard_size))[:-1]])
    shard = plan.shards + np.repeat(first, lengths) + index // shard_size
    rows = new.append_column("shard", pa.array(shard.astype(np.int32)))
    return rows.select(SCHEMA.names).cast(SCHEMA)


def store(fs: pafs.FileSystem, root: str, plan: ShardPlan, rows: pa.Table) -> ShardPlan:
    """Append rows to an output's plan atomically, and return the new plan."""
    if not rows.num_rows:
        return plan
    path = files.join(root, parts.PLAN, f"plan-{plan.stored:05d}.parquet")
    files.write_atomic(fs, path, parts.encode_plain(rows))
    return resolve(pa.concat_tables([plan.rows, rows]), plan.stored + 1)


def done_shards(fs: pafs.FileSystem, root: str) -> set[int]:
    """Return the numbers of the complete shards, which are the shards that have a part."""
    names = files.list_names(fs, files.join(root, parts.REGIONS))
    return {shard for name in names if (shard := parts.shard_of(name)) is not None}


def shards_to_do(
    fs: pafs.FileSystem, root: str, plan: ShardPlan, *, retry_failures: bool
) -> np.ndarray:
    """Return the numbers of shards without a part, after removing parts that must be redone.

    Shards with an image on which the detector raised are redone, because the cause may be gone (out
    of memory, a bug). Files that could not be decoded are retried only with ``retry_failures``.
    """
    done = done_shards(fs, root)
    for shard in sorted(_failed(fs, root, retry_failures) & done):
        # A part means "complete", so remove it before the shard is processed again.
        files.remove(fs, files.join(root, parts.REGIONS, parts.part_name(shard)))
        done.discard(shard)
    return np.flatnonzero(~is_among(done, plan.shards) & (plan.sizes() > 0))


def is_among(some: set[int], shards: int) -> np.ndarray:
    """Return a mask over the shards ``0..shards-1`` that is True for the members of ``some``."""
    among = np.zeros(shards, bool)
    among[[shard for shard in some if shard < shards]] = True
    return among


def _failed(fs: pafs.FileSystem, root: str, every: bool) -> set[int]:
    folder = files.join(root, parts.FAILURES)
    paths = {
        shard: files.join(folder, name)
        for name in files.list_names(fs, folder)
        if (shard := parts.shard_of(name)) is not None
    }
    if every:
        return set(paths)
    # If 1 % of images fail, a quarter of all 32-image shards have such a file. Buckets are slow to
    # respond, so read the files in parallel.
    with ThreadPoolExecutor(READERS) as pool:
        raised = pool.map(lambda path: _raised(fs, path), paths.values())
        return {shard for shard, again in zip(paths, raised, strict=True) if again}


def _raised(fs: pafs.FileSystem, path: str) -> bool:
    """Return whether a failures file has an image on which the detector raised."""
    with open_parquet(fs, path, parts.REMOVE) as failures:
        stages = failures.read(columns=["stage"])["stage"]
    return bool(pc.any(pc.equal(stages, "detect")).as_py())


def shard_tables(plan: ShardPlan, todo: np.ndarray) -> list[pa.Table]:
    """Return a one-row table per shard: its number, and where its images are in the plan."""
    sizes = plan.sizes()
    starts = np.cumsum(sizes) - sizes
    return [
        pa.table(
            {
                "shard": pa.array([shard], pa.int32()),
                "start": pa.array([starts[shard]], pa.int64()),
                "count": pa.array([sizes[shard]], pa.int64()),
            }
        )
        for shard in todo
    ]
