"""The work on shards in one process: decode, detect, write; in Ray's actors all at once."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa

from vlray.cluster.journal import DEATHS, Journal
from vlray.cluster.worker_logs import log_to_stderr
from vlray.stream.across import AcrossShards
from vlray.stream.decode import size_of
from vlray.stream.detect import LAST_DEATHS, DetectShard, work_of
from vlray.stream.rows import DecodedShard, DetectedShard, ImageRow, ShardTask
from vlray.stream.stages import Stages
from vlray.stream.turns import ACROSS_BYTES, Prefetch, Turns
from vlray.stream.write import SUMMARY, ShardSummary

log = logging.getLogger("vlray.stream")


class ShardWork:
    """The three stages in this process. Close it at the end.

    An image may end the process: by a crash in native code, by the time limit, or because the
    system runs out of memory. Ray then restarts the actor, and repeats its shards. After `DEATHS`
    such deaths, a shard is isolated: its images are decoded, and the detector runs, in child
    processes, so that the image which ends a child is found and fails alone. Such an image may end
    the process around the child, too; after `DEATHS` of these deaths, it fails.
    """

    def __init__(self, stages: Stages, journal: Journal | None = None) -> None:
        """Set the options; `load` loads the detector.

        Args:
            stages: The stages.
            journal: Journal of a run without Ray.
        """
        self._stages = stages
        self._journal = stages.detect.journal or journal or Journal()
        self._detect = DetectShard(stages.detect, self._journal)
        self._decoders = ThreadPoolExecutor(stages.decode.threads, "decode")
        self._prefetch = Prefetch()
        self._across: AcrossShards | None = None
        self._lock = threading.Lock()
        self._decoding = 0  # shards that will be submitted
        self._wake: Callable[[], object] = lambda: None

    def use_across(self, wake: Callable[[], object]) -> None:
        """Detect across shards, by `submit` in place of `detect`.

        Args:
            wake: Lets the device's thread call `advance` soon.
        """
        self._wake = wake
        self._prefetch = Prefetch(most=ACROSS_BYTES, full=wake)
        self._across = AcrossShards(self._detect, self._has_more, self._release)

    def _has_more(self) -> bool:
        return self._decoding > 0 and not self._prefetch.is_full

    @contextlib.contextmanager
    def submitting(self) -> Iterator[None]:
        """Announce a shard that is decoded during the block, for which others may wait."""
        with self._lock:
            self._decoding += 1
        try:
            yield
        finally:
            with self._lock:
                self._decoding -= 1
            self._wake()

    def submit(self, decoded: DecodedShard) -> Future[DetectedShard]:
        """Add a decoded shard to those that are detected together, and return its result later."""
        assert self._across is not None
        return self._across.submit(decoded)

    def advance(self) -> None:
        """Detect in the submitted shards; the device's thread calls this."""
        assert self._across is not None
        self._across.advance()

    def load(self, process: str = "") -> None:
        """Load the detector. If this fails, each shard's summary has the problem.

        Args:
            process: Id of the actor, which stays the same when Ray restarts it.
        """
        self._detect.load(process)

    def begin(self, row: pa.Table) -> ShardTask:
        """Begin a shard: a table of `vlray.stream.plan.shard_tables`."""
        task = ShardTask.of(row)
        return task._replace(deaths=self._journal.begin(work_of(task.shard)))

    def is_isolated(self, task: ShardTask) -> bool:
        """Return whether the images of a shard are decoded and detected in child processes."""
        return self._stages.is_isolated or task.deaths >= DEATHS

    def has_children(self, task: ShardTask) -> bool:
        """Return whether child processes work on a shard, so that it wants this one to itself."""
        return self.is_isolated(task) or self._detect.is_separate

    def decode(self, task: ShardTask) -> DecodedShard:
        """Decode the images of a shard; only one thread may call this at a time."""
        if task.deaths >= LAST_DEATHS:
            return DecodedShard(task, [])
        if task.deaths >= DEATHS:
            log.warning(
                "shard %d: the process that works on it ended %d times; its images are now decoded "
                "and detected in processes of their own",
                task.shard,
                task.deaths,
            )
        stage = self._stages.decode
        decoder = stage.decoder(
            self._journal,
            separate=self.is_isolated(task),
            limited=self._stages.detect.journal is not None,
        )
        try:
            rows = stage(task, decoder, self._decoders, self._prefetch, self._journal)
        finally:
            decoder.close()
        return DecodedShard(task, rows)

    def detect(self, decoded: DecodedShard) -> DetectedShard:
        """Detect regions in a shard; all calls and `load` must be made by the same thread."""
        try:
            return self._detect(decoded, self._release)
        finally:
            self._release(decoded.rows)

    def write(self, detected: DetectedShard) -> ShardSummary:
        """Write the files of a shard, and return its summary."""
        summary = self._stages.write(detected)
        self._journal.end(work_of(detected.shard))
        return summary

    def _release(self, rows: list[ImageRow]) -> None:
        """Drop the pixels of images."""
        size = sum(map(size_of, rows))
        for row in rows:
            row["image"] = None
        self._prefetch.release(size)

    def close(self) -> None:
        """Release the detector, and end child processes and waiting threads."""
        self._prefetch.close()
        self._decoders.shutdown(cancel_futures=True)
        self._detect.close()


class ExtractShard:
    """An actor of Ray, which calls it in several threads with a shard each.

    While one shard is detected, the next one is decoded and the last one is written. All pixels
    stay in this process.
    """

    def __init__(self, stages: Stages, actor: str = "") -> None:
        """Begin to load the detector, while the first images are decoded.

        Args:
            stages: The stages.
            actor: Id of the actor; "": from Ray.
        """
        if (env := stages.detect.env) is not None:
            log_to_stderr(env)
        # OpenCV would use all cores of the machine for each image; the actor has its own threads.
        os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
        self._work = ShardWork(stages)
        self._turns = Turns()
        self._decoding = ThreadPoolExecutor(1, "shard")
        # One thread for the device, not a lock: libraries keep contexts and workers by thread.
        self._device = ThreadPoolExecutor(1, "device")
        self._is_across = stages.is_across
        if self._is_across:
            self._work.use_across(lambda: self._device.submit(self._work.advance))
        self._device.submit(self._work.load, actor or _actor_id())

    def __call__(self, row: pa.Table) -> pa.Table:
        """Process one shard, and return its summary: a row of `SUMMARY`."""
        task = self._work.begin(row)
        alone = self._work.has_children(task)
        with self._turns.take(alone=alone):
            if self._is_across and not alone:
                with self._work.submitting():
                    decoded = self._decoding.submit(self._work.decode, task).result()
                    future = self._work.submit(decoded)
                detected = future.result()
            else:
                decoded = self._decoding.submit(self._work.decode, task).result()
                detected = self._device.submit(self._work.detect, decoded).result()
            summary = self._work.write(detected)
        return pa.Table.from_pylist([summary], schema=SUMMARY)


def _actor_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_actor_id())
