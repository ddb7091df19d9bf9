"""What a user should know about the differences between the images and an output."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlray.settings.wording import counted
from vlray.stream import plan as plans
from vlray.stream.changes import MAX_NAMES, Changes
from vlray.stream.plan import ShardPlan

log = logging.getLogger("vlray.stream")


def report(plan: ShardPlan, changes: Changes, done: set[int], output: str, images: str) -> None:
    """Warn about images that have no fingerprint, have vanished, or have new paths.

    Args:
        plan: The plan before the changes.
        changes: The differences.
        done: Numbers of the shards that have a part.
        output: The output, for messages.
        images: The source of the images, for messages.
    """
    if changes.adopted:
        log.warning(
            "%s lacks the file size and modification time for %s, because an older version wrote "
            "it or the files could not be read; vlray assumes that the files have not changed",
            output,
            counted(changes.adopted, "image"),
        )
    if vanished := len(changes.vanished):
        log.warning(
            "%s from %s no longer found in %s, such as %s; the output keeps their rows",
            counted(vanished, "image"),
            output,
            images,
            first_names(changes.vanished),
        )
    _report_new_paths(plan, changes.updated, done)


def _report_new_paths(plan: ShardPlan, now: pa.Table, done: set[int]) -> None:
    before = plan.table.take(
        pc.index_in(now["image_id"], value_set=plan.table["image_id"].combine_chunks())
    )
    is_done = plans.is_among(done, plan.shards)[now["shard"].to_numpy()]
    rows = np.flatnonzero(is_done & pc.not_equal(before["path"], now["path"]).to_numpy())
    if len(rows):
        log.warning(
            "%s now found at another path, such as %s, before %s; rows that are written already "
            "keep the old paths",
            counted(len(rows), "image is", "images are"),
            now["path"][rows[0]].as_py(),
            before["path"][rows[0]].as_py(),
        )


def first_names(names: pa.ChunkedArray) -> str:
    """Return the first names, separated by commas."""
    return ", ".join(names[:MAX_NAMES].to_pylist())
