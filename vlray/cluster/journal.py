"""Journal of a run's work: progress inside shards, and the work on which processes died.

Ray restarts an actor that died and repeats its task without a limit, and it counts progress in
whole tasks. The journal lets a repeated task know how often it was begun before, and the driver
know that a slow task proceeds.
"""

from __future__ import annotations

import time
from typing import Any


class Journal:
    """Journal in this process; `start_journal` runs one for the processes of a cluster."""

    def __init__(self) -> None:
        self._begun: dict[str, int] = {}
        self._last = time.monotonic()

    def begin(self, work: str) -> int:
        """Record the beginning of some work; return how often it was begun and never ended."""
        unfinished = self._begun.get(work, 0)
        self._begun[work] = unfinished + 1
        self.progress()
        return unfinished

    def end(self, work: str) -> None:
        """Record that some work ended, whether it succeeded or raised."""
        self._begun.pop(work, None)
        self.progress()

    def progress(self) -> None:
        """Record progress of any work."""
        self._last = time.monotonic()

    def idle_s(self) -> float:
        """Return the seconds since the last progress."""
        return time.monotonic() - self._last


class ClusterJournal:
    """A `Journal` that the driver and all workers share; picklable."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def begin(self, work: str) -> int:
        """See `Journal.begin`."""
        import ray

        return int(ray.get(self._actor.begin.remote(work)))

    def end(self, work: str) -> None:
        """See `Journal.end`."""
        self._actor.end.remote(work)

    def progress(self) -> None:
        """See `Journal.progress`."""
        self._actor.progress.remote()

    def idle_s(self) -> float:
        """See `Journal.idle_s`."""
        import ray

        return float(ray.get(self._actor.idle_s.remote()))


def start_journal() -> ClusterJournal:
    """Start a journal on the driver's node, so that only the loss of the driver ends it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Journal).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here)
    return ClusterJournal(actor.remote())
