"""Detection of lost nodes whose actors no longer fit on the rest of the cluster."""

from __future__ import annotations

import time
from typing import Any

from ray.data.exceptions import ExecutionTimeoutError

from vlray.cluster.capacity import ResourcePlan, living_nodes, shortage

STALLED_S = 20.0  # without a completed shard
POLL_S = 2.0  # between two looks at the cluster


class NodesLostError(ExecutionTimeoutError):  # type: ignore[misc] # Ray is untyped
    """Raised when a pipeline stalls because the cluster has become too small for it.

    Attributes:
        plan: Resource plan of the pipeline.
    """

    def __init__(self, missing: str, plan: ResourcePlan) -> None:
        super().__init__(f"the cluster has lost nodes: {missing}")
        self.plan = plan


class Watch:
    """Watchdog that ends a stalled pipeline if its actors no longer fit on the cluster.

    Ray restarts the actors of a lost node where resources are free, and waits without a limit for
    resources to become free. On a cluster without GPUs, restarted actors may also take the CPUs of
    the other stages. As long as shards are completed, the pipeline continues, because a new node
    may join.
    """

    def __init__(self, plan: ResourcePlan) -> None:
        """Watch the actors of a resource plan."""
        self._last = last = [time.monotonic()]

        class Callback:
            """Callback that Ray Data instantiates and calls in its scheduling thread."""

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
        """Record that a shard was completed."""
        self._last[0] = time.monotonic()
