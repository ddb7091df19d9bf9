"""Third stage: write the files of a shard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vlray.regions import parts
from vlray.storage import files
from vlray.stream.rows import DetectedShard

SUMMARY = pa.schema(
    [(n, pa.int64()) for n in ("shard", "images", "regions", "failed", "raised", "short", "bytes")]
    + [("problem", pa.string()), ("trace", pa.string())]
)

ShardSummary = dict[str, Any]
"""A row of `SUMMARY`: the counts of a written shard, or the problem that ends the run."""


@dataclass(frozen=True)
class WriteShard:
    """Write the files of one shard. Writing is idempotent, so Ray may repeat it.

    The regions are written last, because their file marks the whole shard as complete. A crash
    before that leaves at most the failures file, and the next run writes both files again.
    """

    output: str
    compression: parts.Compression
    min_boxes: int

    def __call__(self, detected: DetectedShard) -> ShardSummary:
        """Write one shard, and return its summary for the driver."""
        shard, regions, failures = detected.shard, detected.regions, detected.failures
        if regions is None or failures is None:
            return _summary(shard, problem=detected.problem, trace=detected.trace)
        fs, root = files.resolve(self.output)
        name = parts.part_name(shard)
        failures_path = files.join(root, parts.FAILURES, name)
        if failures.num_rows:
            files.write_atomic(fs, failures_path, parts.encode_plain(failures))
        else:
            files.remove(fs, failures_path)  # from an earlier run of this shard
        encoded = parts.encode_regions(regions, self.compression)
        files.write_atomic(fs, files.join(root, parts.REGIONS, name), encoded)
        # "or 0": the sum of an empty column is null.
        raised = pc.sum(pc.equal(failures["stage"], "detect")).as_py() or 0
        short = pc.sum(pc.less(regions["num_boxes"], self.min_boxes)).as_py() or 0
        return _summary(
            shard,
            images=regions.num_rows,
            regions=pc.sum(regions["num_boxes"]).as_py() or 0,
            failed=failures.num_rows,
            raised=raised,
            short=short,
            bytes=encoded.size,
        )


def _summary(shard: int, **values: object) -> ShardSummary:
    """Return the row for the driver: counts, or the problem of the detector that ends the run."""
    return dict.fromkeys(SUMMARY.names, 0) | {"shard": shard, "problem": "", "trace": ""} | values
