"""The plan: the listing cut into shards, once and for all.

A shard is the unit of work and of writing: its images go through decoding, detection and writing
together and end in one file. Shards are fixed by the listing, never by timing, so that whoever
finishes them, in whatever order and after however many crashes, writes the same files. Images that
turn up later become further shards; the earlier ones keep their numbers.

The plan is only ever appended to, one file at a time, and the last row of an image counts: an image
that has changed gets another row in a new shard, and no longer belongs to its old one.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from vlray.regions import parts
from vlray.regions.schema import PLAN
from vlray.storage import files

READERS = 16  # files of failures read at the same time

SCHEMA = pa.schema([*PLAN, ("file_bytes", pa.int64()), ("mtime_ns", pa.int64())])
"""Rows of a plan: those of `PLAN`, and the fingerprint of the file, null where it is not known."""

MOVED = pa.schema([("shard", pa.int32()), ("image_id", pa.string()), ("to", pa.int32())])


@dataclass(frozen=True)
class Plan:
    """Every image that an output has or is to have, in shards. Made by `resolve`.

    Attributes:
        table: One row per image, as `SCHEMA`; the rows of a shard are neighbours, by path.
        stored: How many plan files the output has.
        rows: All rows of these files, those that no longer count included.
        moved: As `MOVED`: the former shards of images that are in another one now.
    """

    table: pa.Table
    stored: int
    rows: pa.Table
    moved: pa.Table

    @property
    def shards(self) -> int:
        """Number of shards; they are numbered from 0, and some may have no images any more."""
        return pc.max(self.table["shard"]).as_py() + 1 if self.table.num_rows else 0

    def sizes(self) -> np.ndarray:
        """Return the number of images of each shard."""
        return np.bincount(self.table["shard"].to_numpy(), minlength=self.shards)


def resolve(rows: pa.Table, stored: int) -> Plan:
    """Make a plan of all its rows, in the order in which they were stored."""
    if stored > 1:
        codes = rows["image_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        last = np.zeros(codes.max() + 1 if len(codes) else 0, np.int64)
        last[codes] = np.arange(len(codes))  # of equal indices, numpy keeps the last assignment
        if len(last) < len(codes):
            shard = rows["shard"].to_numpy()
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
            return Plan(table, stored, rows, moved)
    return Plan(rows, stored, rows, MOVED.empty_table())


def load(fs: pafs.FileSystem, root: str) -> Plan:
    """Read the plan of an output; an output without one has an empty plan."""
    folder = files.join(root, parts.PLAN)
    names = sorted(name for name in files.list_names(fs, folder) if name.startswith("plan-"))
    tables = [pq.read_table(files.join(folder, name), filesystem=fs) for name in names]
    rows = pa.concat_tables([SCHEMA.empty_table(), *map(_with_fingerprints, tables)])
    return resolve(rows, len(names))


def _with_fingerprints(rows: pa.Table) -> pa.Table:
    """Add the columns that plans of older versions lack."""
    for field in SCHEMA:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(len(rows), field.type))
    return rows.select(SCHEMA.names).cast(SCHEMA)


def extend(plan: Plan, images: pa.Table, shard_size: int) -> pa.Table:
    """Cut images into shards of their own, behind those of the plan.

    Args:
        plan: What is planned already.
        images: Rows of a listing that the plan lacks, or has in shards that they leave.
        shard_size: Images of a shard at most.

    Returns:
        The new rows of the plan. A shard holds images of one split only, so that a file does.
    """
    if not images.num_rows:
        return SCHEMA.empty_table()
    new = images.combine_chunks().sort_by([("split", "ascending"), ("path", "ascending")])
    split = pc.dictionary_encode(new["split"].combine_chunks()).indices.to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], split[1:] != split[:-1]]))
    lengths = np.diff(np.append(starts, new.num_rows))
    place = np.arange(new.num_rows) - np.repeat(starts, lengths)  # within the split
    first = np.concatenate([[0], np.cumsum(-(-lengths // shard_size))[:-1]])
    shard = plan.shards + np.repeat(first, lengths) + place // shard_size
    rows = new.append_column("shard", pa.array(shard.astype(np.int32)))
    return rows.select(SCHEMA.names).cast(SCHEMA)


def store(fs: pafs.FileSystem, root: str, plan: Plan, rows: pa.Table) -> Plan:
    """Add rows to an output's plan; they are there whole or not at all."""
    if not rows.num_rows:
        return plan
    path = files.join(root, parts.PLAN, f"plan-{plan.stored:05d}.parquet")
    files.write_atomic(fs, path, parts.encode_plain(rows))
    return resolve(pa.concat_tables([plan.rows, rows]), plan.stored + 1)


def done_shards(fs: pafs.FileSystem, root: str) -> set[int]:
    """Find the shards that have a part, which means that they are done."""
    names = files.list_names(fs, files.join(root, parts.REGIONS))
    return {shard for name in names if (shard := parts.shard_of(name)) is not None}


def shards_to_do(fs: pafs.FileSystem, root: str, plan: Plan, *, retry_failures: bool) -> np.ndarray:
    """Find the shards without a part, and forget those that are to be done again.

    Shards with an image on which the detector raised are done again: the cause may be gone (memory,
    a bug that was mended). Files that could not be decoded are tried again only on request.
    """
    done = done_shards(fs, root)
    for shard in sorted(_failed(fs, root, retry_failures) & done):
        # The part's being there means "done", so taking it away comes before anything else.
        files.remove(fs, files.join(root, parts.REGIONS, parts.part_name(shard)))
        done.discard(shard)
    return np.flatnonzero(~is_among(done, plan.shards) & (plan.sizes() > 0))


def is_among(some: set[int], shards: int) -> np.ndarray:
    """Return for each of a number of shards whether it is one of some."""
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
    # One image in a hundred makes a file for every second shard, and a bucket answers each in turn.
    with ThreadPoolExecutor(READERS) as pool:
        raised = pool.map(lambda path: _raised(fs, path), paths.values())
        return {shard for shard, again in zip(paths, raised, strict=True) if again}


def _raised(fs: pafs.FileSystem, path: str) -> bool:
    """Tell whether the detector raised on one of a shard's images."""
    with fs.open_input_file(path) as file, pq.ParquetFile(file) as failures:
        stages = failures.read(columns=["stage"])["stage"]
    return bool(pc.any(pc.equal(stages, "detect")).as_py())
