"""Journal of a run's work: progress inside shards, and the work on which processes died.

Ray restarts an actor that died and repeats its task without a limit, and it counts progress in
whole tasks. The journal lets a repeated task know how often it was begun before, and the driver
know that a slow task proceeds.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

DEATHS = 2
"""Deaths after which work is isolated in a child process. Work that then also ends the process
around that child is given up after this number of deaths, too."""


class Journal:
    """Journal in this process; `start_journal` runs one for the processes of a cluster."""

    def __init__(self) -> None:
        self._begun: dict[str, int] = {}
        self._partly: dict[str, int] = {}  # images done of unfinished work
        self._images = 0  # of finished work
        self._last = time.monotonic()

    def begin(self, work: str) -> int:
        """Record the beginning of some work; return how often it was begun and never ended."""
        unfinished = self._begun.get(work, 0)
        self._begun[work] = unfinished + 1
        self._partly.pop(work, None)  # of a process that died
        self.progress()
        return unfinished

    def end(self, work: str) -> None:
        """Record that some work ended, whether it succeeded or raised."""
        self._begun.pop(work, None)
        self._images += self._partly.pop(work, 0)
        self.progress()

    def progress(self, work: str = "", images: int = 0) -> None:
        """Record that there is progress, and how many more images some work has done."""
        self._last = time.monotonic()
        if images:
            self._partly[work] = self._partly.get(work, 0) + images

    def images(self) -> int:
        """Return how many images are done, including those of unfinished work."""
        return self._images + sum(self._partly.values())

    def idle_s(self) -> float:
        """Return the seconds since the last progress."""
        return time.monotonic() - self._last


class Journals:
    """A journal for each run of a driver; the actor behind `ClusterJournal`."""

    def __init__(self) -> None:
        self._journals: dict[str, Journal] = {}

    def call(self, run: str, method: str, *args: Any) -> Any:
        """Call a method of a run's journal; the first call creates the journal."""
        return getattr(self._journals.setdefault(run, Journal()), method)(*args)

    def close(self, run: str) -> None:
        """Forget a run that has ended."""
        self._journals.pop(run, None)


class ClusterJournal:
    """A `Journal` that the driver and all workers share; picklable."""

    def __init__(self, actor: Any, run: str) -> None:
        self._actor, self._run = actor, run

    def begin(self, work: str) -> int:
        """See `Journal.begin`."""
        import ray

        return int(ray.get(self._actor.call.remote(self._run, "begin", work)))

    def end(self, work: str) -> None:
        """See `Journal.end`."""
        self._actor.call.remote(self._run, "end", work)

    def progress(self, work: str = "", images: int = 0) -> None:
        """See `Journal.progress`."""
        self._actor.call.remote(self._run, "progress", work, images)

    def images(self) -> int:
        """See `Journal.images`."""
        import ray

        return int(ray.get(self._actor.call.remote(self._run, "images")))

    def idle_s(self) -> float:
        """See `Journal.idle_s`."""
        import ray

        return float(ray.get(self._actor.call.remote(self._run, "idle_s")))

    def close(self) -> None:
        """Forget this run's work."""
        self._actor.close.remote(self._run)


_actors: dict[str, Any] = {}
"""This process's journal actor, keyed by its connection to Ray."""


def start_journal() -> ClusterJournal:
    """Return a new journal on the driver's node, so that only the loss of the driver ends it.

    All runs of a process share one actor: each actor is a process, which takes seconds to start.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    context = ray.get_runtime_context()
    connection = context.get_worker_id()
    if connection not in _actors:
        here = NodeAffinitySchedulingStrategy(context.get_node_id(), soft=False)
        actor = ray.remote(Journals).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here)
        _actors.clear()  # of connections that were shut down
        _actors[connection] = actor.remote()
    return ClusterJournal(_actors[connection], uuid.uuid4().hex)
