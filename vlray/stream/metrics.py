"""Metrics of a run on Ray's metrics endpoint, which Prometheus and the Ray dashboard read.

Each metric has the tags ``project`` and ``run``. Ray adds the prefix ``ray_`` to its name.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any

from ray.util.metrics import Counter, Gauge

from vlray.stream.write import ShardSummary

COUNTERS = {
    "vlray_images": "Images whose regions are written",
    "vlray_failures": "Images that failed",
    "vlray_regions": "Regions written",
    "vlray_bytes": "Bytes of regions written",
}
GAUGES = {
    "vlray_images_per_second": "Images per second in the last minute",
    "vlray_images_left": "Images that the run has yet to process",
    "vlray_shards_waiting": "Shards that no actor has begun",
    "vlray_shards_in_flight": "Shards that actors have begun",
}
TAGS = ("project", "run")
WINDOW_S = 60.0  # the speed is averaged over this time
POLL_S = 2.0  # between two looks at the queue

log = logging.getLogger("vlray.stream")


class ExtractMetrics:
    """Metrics of the shards that a pipeline writes. Requires a connection to Ray.

    The driver counts and not the actors, so that work is counted once if Ray repeats it.
    """

    def __init__(self, project: str, run: str, images: int, shards: int) -> None:
        """Create the metrics.

        Args:
            project: Project of the run.
            run: Name of the run.
            images: Number of images to process.
            shards: Number of shards to process.
        """
        tags = {"project": project, "run": run}
        self._counters = {
            n: Counter(n, d, TAGS).set_default_tags(tags) for n, d in COUNTERS.items()
        }
        self._gauges = {n: Gauge(n, d, TAGS).set_default_tags(tags) for n, d in GAUGES.items()}
        self._left, self._shards, self._waiting = images, shards, shards
        self._done: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self.callback = _queue_watch(self)
        self.show()

    def add(self, row: ShardSummary) -> None:
        """Add a written shard to the counters.

        Args:
            row: The summary from `WriteShard`.
        """
        for name, column in zip(COUNTERS, ("images", "failed", "regions", "bytes"), strict=True):
            if row[column]:  # Ray's counters refuse an increment of 0
                self._counters[name].inc(row[column])
        done = row["images"] + row["failed"]
        self._left, self._shards = self._left - done, self._shards - 1
        self._done.append((time.monotonic(), done))
        self.show()

    def show(self, waiting: int | None = None) -> None:
        """Set the gauges, which the endpoint drops unless they are set repeatedly.

        Args:
            waiting: Shards that no actor has begun; None: the previous number.
        """
        now = time.monotonic()
        while len(self._done) > 1 and self._done[0][0] < now - WINDOW_S:
            self._done.popleft()
        # The oldest entry only marks the beginning of the window.
        (since, before), *_ = self._done
        images = sum(count for _, count in self._done) - before
        self._waiting = min(self._waiting if waiting is None else waiting, self._shards)
        for name, value in (
            ("vlray_images_per_second", images / max(now - since, 1.0)),
            ("vlray_images_left", self._left),
            ("vlray_shards_waiting", self._waiting),
            ("vlray_shards_in_flight", self._shards - self._waiting),
        ):
            self._gauges[name].set(value)


def _queue_watch(metrics: ExtractMetrics) -> type:
    """Return a callback class that Ray Data instantiates and calls in its scheduling loop."""

    class Callback:
        def __init__(self) -> None:
            self._next = 0.0

        def before_execution_starts(self, executor: object) -> None:
            pass

        def on_execution_step(self, executor: object) -> None:
            if (now := time.monotonic()) < self._next:
                return
            self._next = now + POLL_S
            metrics.show(_waiting(executor))

        def after_execution_succeeds(self, executor: object) -> None:
            metrics.show(0)

        def after_execution_fails(self, executor: object, error: Exception) -> None:
            pass

    return Callback


def _waiting(executor: Any) -> int | None:
    """Return the number of shards waiting for an actor; None if Ray does not report it."""
    # Internal API of Ray: a change in it must not make the run fail.
    try:
        states = executor._topology.values()
        first = next(state for state in states if state.input_queues)
        return int(first.total_enqueued_input_blocks())
    except Exception as error:
        log.debug("the length of the queue is unknown: %r", error)
        return None
