"""Figures of runs at Ray's metrics endpoint, beside Ray's own; the dashboard's Prometheus reads it.

Each has the tags ``project`` and ``run``, and ``ray_`` in front of its name there.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any

from ray.util.metrics import Counter, Gauge

COUNTERS = {
    "vlray_images": "Images whose regions are written",
    "vlray_failures": "Images that became rows of failures/",
    "vlray_regions": "Regions written",
    "vlray_bytes": "Bytes of regions written",
}
GAUGES = {
    "vlray_images_per_second": "Images done a second, in the last minute",
    "vlray_images_left": "Images of the run that are not done yet",
    "vlray_shards_waiting": "Shards that no stage has begun",
    "vlray_shards_in_flight": "Shards between the first stage and the last",
}
TAGS = ("project", "run")
WINDOW_S = 60.0
POLL_S = 2.0

log = logging.getLogger("vlray.stream")


class ExtractMetrics:
    """Counts what comes out of a pipeline; Ray has to be connected.

    The driver counts, not the stages: what Ray does again after a failure counts once.
    """

    def __init__(self, project: str, run: str, images: int, shards: int) -> None:
        """Begin.

        Args:
            project: Of the run.
            run: Its folder's name.
            images: To do.
            shards: To do.
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

    def add(self, row: dict[str, Any]) -> None:
        """Count a shard that was written, from its summary."""
        for name, column in zip(COUNTERS, ("images", "failed", "regions", "bytes"), strict=True):
            if row[column]:  # Ray's counters refuse to count nothing
                self._counters[name].inc(row[column])
        done = row["images"] + row["failed"]
        self._left, self._shards = self._left - done, self._shards - 1
        self._done.append((time.monotonic(), done))
        self.show()

    def show(self, waiting: int | None = None) -> None:
        """Set the gauges again: the endpoint forgets what nobody repeats.

        Args:
            waiting: Shards that no stage has begun; None: as many as the last time.
        """
        now = time.monotonic()
        while len(self._done) > 1 and self._done[0][0] < now - WINDOW_S:
            self._done.popleft()
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
    """Make the class that Ray Data calls while it schedules."""

    class Callback:
        def __init__(self) -> None:
            self._next = 0.0

        def before_execution_starts(self, executor: Any) -> None:
            pass

        def on_execution_step(self, executor: Any) -> None:
            if (now := time.monotonic()) < self._next:
                return
            self._next = now + POLL_S
            metrics.show(_waiting(executor))

        def after_execution_succeeds(self, executor: Any) -> None:
            metrics.show(0)

        def after_execution_fails(self, executor: Any, error: Exception) -> None:
            pass

    return Callback


def _waiting(executor: Any) -> int | None:
    """Count what lies in front of the first stage; None: this Ray does not tell."""
    # Internal, hence guarded: a figure is no reason to lose a run.
    try:
        states = executor._topology.values()
        first = next(state for state in states if state.input_queues)
        return int(first.total_enqueued_input_blocks())
    except Exception as error:
        log.debug("the queue is not known: %r", error)
        return None
