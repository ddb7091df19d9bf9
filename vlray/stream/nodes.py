"""Nodes that are lost while a run lasts, and with them the actors that ran there."""

from __future__ import annotations

import time
from typing import Any

from ray.data.exceptions import ExecutionTimeoutError

from vlray.cluster.capacity import ResourcePlan, living_nodes, shortage

STALLED_S = 20.0
POLL_S = 2.0


class NodesLostError(ExecutionTimeoutError):  # type: ignore[misc] # Ray is untyped
    """The cluster no longer holds the actors of a pipeline, and the pipeline stands still.

    Attributes:
        plan: Of that pipeline.
    """

    def __init__(self, missing: str, plan: ResourcePlan) -> None:
        super().__init__(f"nodes of the cluster are gone: {missing}")
        self.plan = plan


class Watch:
    """Ends a pipeline that waits for the actors of a lost node, for which there is no room.

    Ray starts such actors again where there is room, and keeps their shards for them, however long
    that takes; on a cluster without GPUs they may also take the CPUs that the other stages need.
    While shards come out all the same, it is left at that, since another node may come.
    """

    def __init__(self, plan: ResourcePlan) -> None:
        """Watch over the actors of one plan."""
        self._last = last = [time.monotonic()]

        class Callback:
            """Ray Data makes one from the class, and calls it in the thread that schedules."""

            def __init__(self) -> None:
                self._checked = 0.0

            def before_execution_starts(self, executor: Any) -> None:
                pass

            def on_execution_step(self, executor: Any) -> None:
                now = time.monotonic()
                if now < max(last[0] + STALLED_S, self._checked + POLL_S):
                    return
                self._checked = now
                if missing := shortage(plan, living_nodes()):
                    raise NodesLostError(missing, plan)

            def after_execution_succeeds(self, executor: Any) -> None:
                pass

            def after_execution_fails(self, executor: Any, error: Exception) -> None:
                pass

        self.callback = Callback

    def moved(self) -> None:
        """Say that a shard came out."""
        self._last[0] = time.monotonic()
