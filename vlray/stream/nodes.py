"""Detection of stalled runs, such as after the loss of nodes."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ray.data.exceptions import ExecutionTimeoutError

from vlray.cluster.capacity import ResourcePlan, living_nodes, shortage
from vlray.cluster.growth import Growth
from vlray.cluster.journal import ClusterJournal
from vlray.config.extract import ExtractConfig

STALLED_S = 20.0  # without a completed shard
POLL_S = 2.0  # between two looks at the cluster
STALL_S = 900.0  # without progress of any image, apart from the detector's time limit
GPU_BATCH = 8  # images of a batch, unless the options say otherwise


class NodesLostError(ExecutionTimeoutError):  # type: ignore[misc] # Ray is untyped
    """Raised when a pipeline stalls because the cluster has become too small for it.

    Attributes:
        plan: Resource plan of the pipeline.
    """

    def __init__(self, missing: str, plan: ResourcePlan) -> None:
        super().__init__(f"the cluster has lost nodes: {missing}")
        self.plan = plan


class StalledError(ExecutionTimeoutError):  # type: ignore[misc] # Ray is untyped
    """Raised when no image of a run makes progress for too long."""


def stall_limit(config: ExtractConfig) -> float:
    """Return the seconds without progress after which a run ends.

    The detector of a batch may take the time limit of each of its images, and an actor that the
    limit has ended loads its detector again.
    """
    batch = max(config.detector.batch_size, GPU_BATCH)
    return STALL_S + config.cluster.image_timeout * batch


class Watch:
    """Watchdog that ends a stalled pipeline.

    A pipeline is stalled if its actors no longer fit on the cluster, or if the journal has had no
    progress for a long time: resources never become free, or storage does not respond.

    Ray restarts the actors of a lost node where resources are free, and waits without a limit for
    resources to become free. As long as shards are completed, the pipeline continues, because a new
    node may join.
    """

    def __init__(
        self,
        plan: ResourcePlan,
        growth: Growth | None,
        journal: ClusterJournal,
        limit: float,
        label_selector: Mapping[str, str],
    ) -> None:
        """Watch a run.

        Args:
            plan: Resources of the actors.
            growth: Request for more nodes, which is repeated during the run.
            journal: Journal of the run.
            limit: Seconds without progress after which the run ends.
            label_selector: Labels of the nodes that the run uses.
        """
        self._last = last = [time.monotonic()]

        class Callback:
            """Callback that Ray Data instantiates and calls in its scheduling thread."""

            def __init__(self) -> None:
                self._checked = 0.0

            def before_execution_starts(self, executor: object) -> None:
                pass

            def on_execution_step(self, executor: object) -> None:
                if growth:
                    growth.check(plan)
                now = time.monotonic()
                if now < max(last[0] + STALLED_S, self._checked + POLL_S):
                    return
                self._checked = now
                if missing := shortage(plan, living_nodes(label_selector)):
                    raise NodesLostError(missing, plan)
                if now > last[0] + limit and (idle := journal.idle_s()) > limit:
                    raise StalledError(
                        f"no image made progress in {idle / 60:.0f} minutes; see the log for the "
                        "cause, or raise --cluster.image-timeout if the detector is that slow"
                    )

            def after_execution_succeeds(self, executor: object) -> None:
                pass

            def after_execution_fails(self, executor: object, error: Exception) -> None:
                pass

        self.callback = Callback

    def moved(self) -> None:
        """Record that a shard was completed."""
        self._last[0] = time.monotonic()
