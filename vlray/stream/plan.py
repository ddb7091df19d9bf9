"""The plan: the listing cut into shards, once and for all.

A shard is the unit of work and of writing: its images go through decoding, detection and writing
together and end in one file. Shards are fixed by the listing, never by timing, so that whoever
finishes them, in whatever order and after however many crashes, writes the same files. Images that
turn up later become further shards; the earlier ones keep their numbers.
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


@dataclass(frozen=True)
class Plan:
    """Every image that an output has or is to have, in shards.

    Attributes:
        table: One row per image, as `PLAN`; the rows of a shard are neighbours.
        stored: How many plan files the output has.
    """

    table: pa.Table
    stored: int

    @property
    def shards(self) -> int:
        """Number of shards; they are numbered from 0."""
        return pc.max(self.table["shard"]).as_py() + 1 if self.table.num_rows else 0

    def sizes(self) -> np.ndarray:
        """Give the number of images of each shard."""
        return np.bincount(self.table["shard"].to_numpy(), minlength=self.shards)


def load(fs: pafs.FileSystem, root: str) -> Plan:
    """Read the plan of an output; an output without one has an empty plan."""
    folder = files.join(root, parts.PLAN)
    names = sorted(name for name in files.list_names(fs, folder) if name.startswith("plan-"))
    tables = [pq.read_table(files.join(folder, name), filesystem=fs) for name in names]
    return Plan(pa.concat_tables([PLAN.empty_table(), *tables]), len(names))


def extend(plan: Plan, listing: pa.Table, shard_size: int) -> pa.Table:
    """Cut the images that the plan lacks into shards of their own.

    Args:
        plan: What is planned already.
        listing: Columns ``image_id``, ``path``, ``split``, in the order of the paths.
        shard_size: Images of a shard at most.

    Returns:
        The new rows of the plan. A shard holds images of one split only, so that a file does.
    """
    known = pc.is_in(listing["image_id"], value_set=plan.table["image_id"].combine_chunks())
    new = listing.filter(pc.invert(known)).combine_chunks()
    if not new.num_rows:
        return PLAN.empty_table()
    new = new.sort_by([("split", "ascending"), ("path", "ascending")])
    split = pc.dictionary_encode(new["split"].combine_chunks()).indices.to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], split[1:] != split[:-1]]))
    lengths = np.diff(np.append(starts, new.num_rows))
    place = np.arange(new.num_rows) - np.repeat(starts, lengths)  # within the split
    first = np.concatenate([[0], np.cumsum(-(-lengths // shard_size))[:-1]])
    shard = plan.shards + np.repeat(first, lengths) + place // shard_size
    return pa.table(
        [pa.array(shard.astype(np.int32)), new["image_id"], new["path"], new["split"]],
        schema=PLAN,
    )


def store(fs: pafs.FileSystem, root: str, plan: Plan, rows: pa.Table) -> Plan:
    """Add rows to an output's plan; they are there whole or not at all."""
    if not rows.num_rows:
        return plan
    path = files.join(root, parts.PLAN, f"plan-{plan.stored:05d}.parquet")
    files.write_atomic(fs, path, parts.encode_plain(rows))
    return Plan(pa.concat_tables([plan.table, rows]), plan.stored + 1)


def shards_to_do(fs: pafs.FileSystem, root: str, plan: Plan, *, retry_failures: bool) -> np.ndarray:
    """Find the shards without a part, and forget those that are to be done again.

    Shards with an image on which the detector raised are done again: the cause may be gone (memory,
    a bug that was mended). Files that could not be decoded are tried again only on request.
    """
    regions = files.join(root, parts.REGIONS)
    done = {parts.shard_of(name) for name in files.list_names(fs, regions)}
    for shard in sorted(_failed(fs, root, retry_failures) & done):
        # The part's being there means "done", so taking it away comes before anything else.
        files.remove(fs, files.join(regions, parts.part_name(shard)))
        done.discard(shard)
    shards = plan.shards  # once: it looks at every row of the plan
    is_done = np.zeros(shards, bool)
    is_done[[shard for shard in done if shard is not None and shard < shards]] = True
    return np.flatnonzero(~is_done)


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
