"""What has changed of the images since they were planned, and clearing it out of the old parts.

An image whose fingerprint is another one than the plan's moves to a new shard. In this order:

1. The plan gets one more file: rows of new shards for what is new and what has changed. From here
   on the image belongs to its new shard, whatever the folders of the output still hold.
2. `clear` writes the parts of the old shards again without it, each in one step; parts of which
   nothing is left are removed.
3. The new shards are done like any others.

A process that dies before the end of 1 has changed nothing. After 1, a part still has the old row,
and a part whose shard is still to be done tells the next run so: every run clears for each shard
without a part before it does any. So a part that is there says that its images are in no other
one, and at no time has an image two rows; between 2 and 3 it has none, as in an output that grows.
An image whose shard is not done yet stays where it is: nothing of it has been written.

A file with another time and the same size may be a copy of what was read. Where its shard is done,
the digest of its content, which each part keeps of its images, decides.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from vlray.regions import parts
from vlray.storage import files, fingerprint
from vlray.stream import plan as plans
from vlray.stream.plan import Plan

log = logging.getLogger("vlray.stream")

WRITERS = 4  # parts that are in memory at the same time
SHOWN = 3  # names of images in a message
_UNKNOWN = -2  # bytes of a file whose fingerprint is not known; those of an absent one are -1


class ImagesChangedError(ValueError):
    """Images have changed since an output was made, and are not to be done again."""


@dataclass(frozen=True, eq=False)
class Changes:
    """A listing beside a plan.

    Attributes:
        new: Rows of the listing that the plan lacks.
        changed: Rows of the listing, of images that are done and are other files now.
        same_size: Of each of these, whether it may be a copy: only its time has changed.
        moved: Rows of the listing, of images that are not done and are of another split now.
        updated: Rows of the plan with what has changed of images that stay in their shards.
        adopted: How many of these had no fingerprint.
        vanished: Ids of images that the plan has and the listing lacks.
    """

    new: pa.Table
    changed: pa.Table
    same_size: np.ndarray
    moved: pa.Table
    updated: pa.Table
    adopted: int
    vanished: pa.ChunkedArray


def compare(plan: Plan, listing: pa.Table, done: set[int], *, every_split: bool = True) -> Changes:
    """Compare a listing with the plan.

    Args:
        plan: Of the output.
        listing: As `vlray.images.find.LISTING`.
        done: The shards that have a part.
        every_split: Whether the listing has all splits; otherwise images of others are not missed.
    """
    planned = plan.table
    found = pc.index_in(listing["image_id"], value_set=planned["image_id"].combine_chunks())
    row = pc.fill_null(found, -1).to_numpy().astype(np.int64)
    is_known = row >= 0
    here = np.flatnonzero(is_known)
    seen = np.zeros(planned.num_rows, bool)
    seen[row[here]] = True
    vanished = planned.filter(pa.array(~seen))
    if not every_split:
        vanished = vanished.filter(pc.is_in(vanished["split"], pc.unique(listing["split"])))
    new, there = listing.filter(pa.array(~is_known)), listing.take(here)
    before = planned.take(row[here]) if len(here) else planned.slice(0, 0)
    old_bytes, old_time = _numbers(before)
    new_bytes, new_time = _numbers(there)
    comparable = (old_bytes != _UNKNOWN) & (new_bytes != _UNKNOWN)
    differs = comparable & ((old_bytes != new_bytes) | (old_time != new_time))
    adopted = (old_bytes == _UNKNOWN) & (new_bytes != _UNKNOWN)
    is_done = plans.is_among(done, plan.shards)[before["shard"].to_numpy()]
    elsewhere = ~_equal(before["path"], there["path"])
    stays = _equal(before["split"], there["split"])
    changed = differs & is_done
    waiting = (differs | elsewhere) & ~is_done
    waits = (adopted | waiting) & ~is_done & stays
    return Changes(
        new,
        there.filter(pa.array(changed)),
        (old_bytes == new_bytes)[changed],
        there.filter(pa.array(waiting & ~stays)),
        pa.concat_tables(
            [
                _updated(before, there, adopted & is_done, before),
                _updated(before, there, waits, there),
            ]
        ),
        int(adopted.sum()),
        vanished["image_id"],
    )


def _numbers(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return sizes and times as arrays, without nulls: those would become floats."""
    sizes = pc.fill_null(table["file_bytes"], _UNKNOWN).to_numpy()
    return sizes, pc.fill_null(table["mtime_ns"], 0).to_numpy()


def _equal(one: pa.ChunkedArray, other: pa.ChunkedArray) -> np.ndarray:
    equal: np.ndarray = pc.equal(one, other).to_numpy()
    return equal


def _updated(before: pa.Table, there: pa.Table, chosen: np.ndarray, named: pa.Table) -> pa.Table:
    """Put fingerprints of a listing into rows of the plan, which keep their shards.

    Args:
        before: Rows of the plan.
        there: Rows of the listing, of the same images.
        chosen: Which of them.
        named: The one of the two tables that has the path and split that count.
    """
    columns = [
        before["shard"],
        before["image_id"],
        named["path"],
        named["split"],
        there["file_bytes"],
        there["mtime_ns"],
    ]
    return pa.table(columns, schema=plans.SCHEMA).filter(pa.array(chosen))


def confirm(
    fs: pafs.FileSystem, root: str, images_root: str, plan: Plan, changes: Changes
) -> Changes:
    """Leave images alone whose files have another time, but the content that was read.

    Args:
        fs: Where the output is.
        root: Its folder there.
        images_root: What the paths of the listing are relative to.
        plan: Of the output.
        changes: From `compare`.
    """
    candidates = np.flatnonzero(changes.same_size)
    if not len(candidates):
        return changes
    listed = changes.changed.take(candidates)
    ids = plan.table["image_id"].combine_chunks()
    before = plan.table.take(pc.index_in(listed["image_id"], value_set=ids))
    kept = _kept_digests(fs, root, before["shard"].unique().to_pylist())
    known = np.array([image_id in kept for image_id in listed["image_id"].to_pylist()], bool)
    mask = pa.array(known)
    candidates, listed, before = candidates[known], listed.filter(mask), before.filter(mask)
    if not len(candidates):
        return changes
    log.info("comparing the content of %s images that have another time", f"{len(candidates):,}")
    now = fingerprint.digests(images_root, listed["path"].to_pylist())
    names = listed["image_id"].to_pylist()
    same = np.array([kept[name] == one for name, one in zip(names, now, strict=True)], bool)
    log.info("%s of them have the content that was read", f"{int(same.sum()):,}")
    is_changed = np.ones(changes.changed.num_rows, bool)
    is_changed[candidates[same]] = False
    return replace(
        changes,
        changed=changes.changed.filter(pa.array(is_changed)),
        same_size=changes.same_size[is_changed],
        updated=pa.concat_tables([changes.updated, _updated(before, listed, same, before)]),
    )


def _kept_digests(fs: pafs.FileSystem, root: str, shards: list[int]) -> dict[str, str]:
    """Read the digests that parts keep, by image id."""
    paths = [
        files.join(root, folder, parts.part_name(shard))
        for folder in (parts.REGIONS, parts.FAILURES)
        for shard in shards
    ]
    with ThreadPoolExecutor(plans.READERS) as pool:
        found = pool.map(lambda path: parts.read_digests(fs, path), paths)
        return {image_id: one for some in found for image_id, one in some.items() if one}


def clear(
    fs: pafs.FileSystem, root: str, plan: Plan, done: set[int], compression: parts.Compression
) -> None:
    """Take images out of the parts of shards that they have left.

    Args:
        fs: Where the output is.
        root: Its folder there.
        plan: Of the output, stored.
        done: The shards that have a part.
        compression: Of the output.
    """
    if not plan.moved.num_rows:
        return
    to = plan.moved["to"].to_numpy()
    waiting = ~plans.is_among(done, plan.shards)[to]
    sizes = plan.sizes()
    with ThreadPoolExecutor(WRITERS) as pool:
        jobs = []
        for shard in np.unique(plan.moved["shard"].to_numpy()[waiting]).tolist():
            gone = plan.moved.filter(pc.equal(plan.moved["shard"], shard))["image_id"]
            args = (fs, root, parts.part_name(shard), gone, compression, not sizes[shard])
            jobs.append(pool.submit(_clear_part, *args))
        for job in jobs:
            job.result()


def _clear_part(
    fs: pafs.FileSystem,
    root: str,
    name: str,
    gone: pa.ChunkedArray,
    compression: parts.Compression,
    is_empty: bool,
) -> None:
    """Write the two files of a shard without some images; remove them where nothing is left."""
    for folder in (parts.REGIONS, parts.FAILURES):
        path = files.join(root, folder, name)
        if is_empty:
            files.remove(fs, path)
            continue
        if fs.get_file_info(path).type != pafs.FileType.File:
            continue
        with fs.open_input_file(path) as file, pq.ParquetFile(file) as part:
            table = part.read()
        kept = np.flatnonzero(~pc.is_in(table["image_id"], gone.combine_chunks()).to_numpy())
        if len(kept) == table.num_rows:
            continue
        table = parts.take(table, kept)
        if folder == parts.REGIONS:
            files.write_atomic(fs, path, parts.encode_regions(table, compression))
        elif table.num_rows:
            files.write_atomic(fs, path, parts.encode_plain(table))
        else:
            files.remove(fs, path)
