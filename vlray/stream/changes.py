"""Detection of changed images, and removal of their rows from existing parts.

An image whose fingerprint differs from that in the plan moves to a new shard, in this order:

1. A further plan file assigns new and changed images to new shards. From then on, a changed image
   belongs to its new shard, even while the old part still has a row for it.
2. `clear` atomically rewrites the parts of the old shards without the changed images. Parts that
   become empty are removed.
3. The new shards are processed like all others.

If the process is killed before the end of step 1, nothing has changed. If it is killed in step 2,
an old part may still have a row for an image whose new shard has no part. Therefore every run first
clears the old rows of all images whose new shard has no part yet. Once a shard has a part, no other
part has rows for its images, so an image never has two rows. Between steps 2 and 3 a changed image
has no row, like an image that has not been processed yet.

A changed image whose shard has no part stays in that shard, because nothing has been written for
it; only a new split moves the image. A file with a new time but the same size may be a copy with
the same content. If its shard has a part, the digest in that part shows whether the content
is the same.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from vlray.images.sources.entry import BROKEN
from vlray.images.sources.members import digests as digests_now
from vlray.regions import parts
from vlray.settings.wording import counted
from vlray.storage import files
from vlray.storage.damage import open_parquet
from vlray.stream import plan as plans
from vlray.stream.plan import ShardPlan

log = logging.getLogger("vlray.stream")

WRITERS = 4  # parts in memory at the same time
MAX_NAMES = 3  # maximum number of images in a message
_UNKNOWN = -2  # stands for the size of a file without a fingerprint; a missing file has -1


class ImagesChangedError(ValueError):
    """Raised when images have changed since their extraction and ``on_changed`` is ``refuse``."""


@dataclass(frozen=True, eq=False)
class Changes:
    """Differences between a listing and a plan.

    Attributes:
        new: Listing rows of images that are not in the plan.
        changed: Listing rows of images whose files have changed since their extraction.
        same_size: Mask over ``changed``: True if only the time differs, as for a copied file.
        moved: Listing rows of images that are not extracted yet and whose split has changed.
        updated: Plan rows, with new fingerprints, of images that stay in their shards.
        adopted: Number of images that had no fingerprint before.
        vanished: Ids of images that are in the plan but not in the listing.
    """

    new: pa.Table
    changed: pa.Table
    same_size: np.ndarray
    moved: pa.Table
    updated: pa.Table
    adopted: int
    vanished: pa.ChunkedArray


def compare(
    plan: ShardPlan, listing: pa.Table, done: set[int], *, every_split: bool = True
) -> Changes:
    """Compare a listing with the plan.

    Args:
        plan: The plan of the output.
        listing: Table with the schema `vlray.images.listing.LISTING`.
        done: Numbers of the shards that have a part.
        every_split: Whether the listing covers all splits. If not, images in the missing splits
            do not count as vanished.
    """
    planned = plan.table
    indices = pc.index_in(listing["image_id"], value_set=planned["image_id"].combine_chunks())
    row = pc.fill_null(indices, -1).to_numpy().astype(np.int64)  # plan row of each listed image
    is_planned = row >= 0
    here = np.flatnonzero(is_planned)
    seen = np.zeros(planned.num_rows, bool)
    seen[row[here]] = True
    vanished = planned.filter(pa.array(~seen))
    if not every_split:
        vanished = vanished.filter(pc.is_in(vanished["split"], pc.unique(listing["split"])))
    new, there = listing.filter(pa.array(~is_planned)), listing.take(here)
    before = planned.take(row[here]) if len(here) else planned.slice(0, 0)
    # The arrays below cover the images in both tables, in the order of `there`.
    old_bytes, old_time = _numbers(before)
    new_bytes, new_time = _numbers(there)
    comparable = (old_bytes != _UNKNOWN) & (new_bytes != _UNKNOWN)
    differs = comparable & ((old_bytes != new_bytes) | (old_time != new_time))
    adopted = (old_bytes == _UNKNOWN) & (new_bytes != _UNKNOWN)
    is_done = plans.is_among(done, plan.shards)[before["shard"].to_numpy()]
    same_path = _equal(before["path"], there["path"])
    has_moved = ~same_path | ~_equal(_places(before), _places(there))
    stays = _equal(before["split"], there["split"])
    # A member that cannot be read now, as in an archive that is being copied, keeps its rows.
    is_lost = pc.starts_with(_places(there), f"{BROKEN} ").to_numpy(zero_copy_only=False)
    changed = differs & is_done & ~is_lost
    waiting = (differs | has_moved) & ~is_done
    waits = (adopted | waiting) & ~is_done & stays
    return Changes(
        new,
        there.filter(pa.array(changed)),
        (old_bytes == new_bytes)[changed],
        there.filter(pa.array(waiting & ~stays)),
        pa.concat_tables(
            [
                # Extracted images keep the split that their rows have. A shard that is done may be
                # done again, and reads its images where they are now.
                _updated(
                    before, there, (adopted | (has_moved & ~differs & ~is_lost)) & is_done, before
                ),
                _updated(before, there, waits, there),
            ]
        ),
        int(adopted.sum()),
        vanished["image_id"],
    )


def _numbers(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return sizes and times as integer arrays; nulls are replaced to avoid float arrays."""
    sizes = pc.fill_null(table["file_bytes"], _UNKNOWN).to_numpy()
    return sizes, pc.fill_null(table["mtime_ns"], 0).to_numpy()


def _places(table: pa.Table) -> pa.ChunkedArray:
    return pc.fill_null(table["place"], "")


def _equal(one: pa.ChunkedArray, other: pa.ChunkedArray) -> np.ndarray:
    equal: np.ndarray = pc.equal(one, other).to_numpy()
    return equal


def _updated(before: pa.Table, there: pa.Table, chosen: np.ndarray, splits: pa.Table) -> pa.Table:
    """Return plan rows with the listing's paths, places and fingerprints, in the same shards.

    Args:
        before: Rows of the plan.
        there: Listing rows of the same images.
        chosen: Mask of the rows to return.
        splits: The table that supplies the split, ``before`` or ``there``.
    """
    columns = [
        before["shard"],
        before["image_id"],
        there["path"],
        splits["split"],
        there["file_bytes"],
        there["mtime_ns"],
        there["place"],
    ]
    return pa.table(columns, schema=plans.SCHEMA).filter(pa.array(chosen))


def confirm(
    fs: pafs.FileSystem, root: str, images_root: str, plan: ShardPlan, changes: Changes
) -> Changes:
    """Remove from ``changed`` the images whose files have a new time but unchanged content.

    Args:
        fs: Filesystem of the output.
        root: Path of the output.
        images_root: Base of the relative paths of the listing.
        plan: The plan of the output.
        changes: Result of `compare`.
    """
    candidates = np.flatnonzero(changes.same_size)
    if not len(candidates):
        return changes
    listed = changes.changed.take(candidates)
    ids = plan.table["image_id"].combine_chunks()
    before = plan.table.take(pc.index_in(listed["image_id"], value_set=ids))
    digests = _saved_digests(fs, root, before["shard"].unique().to_pylist())
    has_digest = np.array([name in digests for name in listed["image_id"].to_pylist()], bool)
    mask = pa.array(has_digest)
    candidates, listed, before = candidates[has_digest], listed.filter(mask), before.filter(mask)
    if not len(candidates):
        return changes
    log.info(
        "comparing the content of %s with a new modification time",
        counted(len(candidates), "image"),
    )
    now = digests_now(images_root, listed["path"].to_pylist(), listed["place"].to_pylist())
    names = listed["image_id"].to_pylist()
    same = np.array([digests[name] == one for name, one in zip(names, now, strict=True)], bool)
    log.info("with unchanged content: %s", counted(int(same.sum()), "image"))
    is_changed = np.ones(changes.changed.num_rows, bool)
    is_changed[candidates[same]] = False
    return replace(
        changes,
        changed=changes.changed.filter(pa.array(is_changed)),
        same_size=changes.same_size[is_changed],
        updated=pa.concat_tables([changes.updated, _updated(before, listed, same, before)]),
    )


def _saved_digests(fs: pafs.FileSystem, root: str, shards: list[int]) -> dict[str, str]:
    """Read the digests in the parts of the given shards, keyed by image id."""
    paths = [
        files.join(root, folder, parts.part_name(shard))
        for folder in (parts.REGIONS, parts.FAILURES)
        for shard in shards
    ]
    with ThreadPoolExecutor(plans.READERS) as pool:
        tables = pool.map(lambda path: parts.read_digests(fs, path), paths)
        return {image_id: one for table in tables for image_id, one in table.items() if one}


def clear(
    fs: pafs.FileSystem, root: str, plan: ShardPlan, done: set[int], compression: parts.Compression
) -> None:
    """Remove moved images from the parts of their former shards.

    Args:
        fs: Filesystem of the output.
        root: Path of the output.
        plan: The stored plan of the output.
        done: Numbers of the shards that have a part.
        compression: Compression of the output.
    """
    if not plan.moved.num_rows:
        return
    # If a new shard has a part, a clear was completed before; only the others still need one.
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
    """Rewrite a shard's regions and failures without the given images; remove empty files."""
    for folder in (parts.REGIONS, parts.FAILURES):
        path = files.join(root, folder, name)
        if is_empty:
            files.remove(fs, path)
            continue
        if fs.get_file_info(path).type != pafs.FileType.File:
            continue
        with open_parquet(fs, path, parts.REMOVE) as part:
            table = part.read()
        remaining = np.flatnonzero(~pc.is_in(table["image_id"], gone.combine_chunks()).to_numpy())
        if len(remaining) == table.num_rows:
            continue
        table = parts.take(table, remaining)
        if folder == parts.REGIONS:
            files.write_atomic(fs, path, parts.encode_regions(table, compression))
        elif table.num_rows:
            files.write_atomic(fs, path, parts.encode_plain(table))
        else:
            files.remove(fs, path)
