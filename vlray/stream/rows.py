"""What the stages of an extraction pass on inside a process: the rows of a shard's images."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa

ImageRow = dict[str, Any]
"""One image of a shard.

- ``image_id``, ``path``, ``split``: as in the plan.
- ``digest``: of the file's content; missing if it could not be read.
- ``boxes``: (R, 4) float32 user boxes in pixels of the original image; None: the detector finds
  boxes.
- ``image``: (H, W, C) pixels for the detector, which may modify them; None if the image failed, and
  after the detector has seen it.
- ``image_height``, ``image_width``: of the original image, after EXIF rotation, in pixels.
- ``stage``, ``error``, ``reason``: why the image failed; missing if it did not.
"""


class ShardTask(NamedTuple):
    """A shard to process."""

    shard: int
    start: int  # first row of its images in the plan
    images: int
    deaths: int  # of processes that worked on this shard before

    @classmethod
    def of(cls, row: pa.Table, deaths: int = 0) -> ShardTask:
        """Read a table of `vlray.stream.plan.shard_tables`."""
        if row.num_rows != 1:
            raise AssertionError(f"an actor received {row.num_rows} shards at once instead of 1")
        shard, start, count = (row[name][0].as_py() for name in ("shard", "start", "count"))
        return cls(shard, start, count, deaths)


class DecodedShard(NamedTuple):
    """A shard whose images are decoded."""

    task: ShardTask
    rows: list[ImageRow]


class DetectedShard(NamedTuple):
    """A shard whose images are detected; or a problem of the detector, which ends the run."""

    shard: int
    regions: pa.Table | None = None
    failures: pa.Table | None = None
    problem: str = ""
    trace: str = ""
