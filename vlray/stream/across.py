"""Detection over several shards at once, so that a GPU gets many images of one size."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from vlray.regions.batch import RegionBatch
from vlray.stream.detect import DetectShard, work_of
from vlray.stream.rows import DecodedShard, DetectedShard, ImageRow
from vlray.stream.size_queue import SizeQueue

WINDOW = 1280
"""Images of the shards that a process works on at once. Passes of at most 8 images then have 6 on
average over the sizes of COCO's photographs (tests/stream/test_size_queue.py)."""


@dataclass
class _Open:
    """A shard of which images still wait."""

    decoded: DecodedShard
    future: Future[DetectedShard]
    left: int
    results: dict[int, RegionBatch | Exception] = field(default_factory=dict)


class AcrossShards:
    """Detects in the images of all decoded shards of a process.

    Any thread may call `submit`; after that, the thread of the device has to call `advance`.
    """

    def __init__(
        self,
        detect: DetectShard,
        more: Callable[[], bool],
        release: Callable[[list[ImageRow]], None],
    ) -> None:
        """Set the functions.

        Args:
            detect: The detector, which only the device's thread uses.
            more: Returns whether a shard is being decoded, whose images may complete a batch. When
                this becomes false, `advance` has to be called.
            release: Called with rows whose images are no longer needed.
        """
        self._detect, self._more, self._release = detect, more, release
        self._queue = SizeQueue()
        self._lock = threading.Lock()
        self._submitted: list[_Open] = []
        self._shards: dict[int, _Open] = {}  # by the id of a waiting row

    def submit(self, decoded: DecodedShard) -> Future[DetectedShard]:
        """Add a decoded shard; the result follows when all of its images are done."""
        rows = sum(row["image"] is not None for row in decoded.rows)
        shard = _Open(decoded, Future(), rows)
        with self._lock:
            self._submitted.append(shard)
        return shard.future

    def advance(self) -> None:
        """Detect in all batches that are complete, and in others if no more images will come."""
        try:
            self._add()
            while batch := self._queue.take(self._detect.batch_size, more=self._more()):
                self._run(batch)
                self._add()
        except BaseException as error:
            for shard in {id(shard): shard for shard in self._shards.values()}.values():
                shard.future.set_exception(error)
            self._shards.clear()
            self._queue = SizeQueue()

    def _add(self) -> None:
        """Add the images of the shards that were submitted."""
        with self._lock:
            submitted, self._submitted = self._submitted, []
        for shard in submitted:
            refused = self._detect.begin(shard.decoded)
            if refused is not None:
                self._release(shard.decoded.rows)
                shard.future.set_result(refused)
                continue
            good = [row for row in shard.decoded.rows if row["image"] is not None]
            self._shards |= {id(row): shard for row in good}
            self._queue.add(good)
            if not good:
                self._finish(shard)

    def _run(self, batch: list[ImageRow]) -> None:
        results = self._detect.batch(batch)
        done: Counter[int] = Counter()
        for row, result in zip(batch, results, strict=True):
            shard = self._shards.pop(id(row))
            shard.results[id(row)] = result
            shard.left -= 1
            done[shard.decoded.task.shard] += 1
            if not shard.left:
                self._finish(shard)
        for number, images in done.items():
            self._detect.journal.progress(work_of(number), images)
        self._release(batch)

    def _finish(self, shard: _Open) -> None:
        shard.future.set_result(self._detect.finish(shard.decoded, shard.results))
