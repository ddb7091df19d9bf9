"""Resources of a trial, and how many trials fit on the cluster at the same time."""

from __future__ import annotations

from vlray.cluster.capacity import Node, capacity_of, living_nodes
from vlray.config.training import WorkersSection
from vlray.config.tune import TrialsSection
from vlray.engine.workers import allocate
from vlray.tuning.work import Resources

MOST = 1_000
"""Maximum number of concurrent trials."""
DRIVER_CPUS = 0.01
"""CPUs of a trial that only starts Ray Train workers and waits for them."""


def for_selections(options: TrialsSection) -> Resources:
    """Return the resources for trials that select regions.

    Raises:
        ValueError: Not even one trial fits on the cluster.
    """
    return _resources(options.cpus_per_trial, 0, living_nodes())


def for_trainings(options: TrialsSection, workers: WorkersSection) -> Resources:
    """Return the resources for trials that train in their own process or on Ray Train workers.

    Raises:
        ValueError: Not even one trial fits on the cluster.
    """
    nodes = living_nodes()
    total_gpus = sum(node.gpus for node in nodes)
    if workers.use_gpu == "yes" and total_gpus < 1:
        raise ValueError(
            f"cluster.use_gpu is yes, but none of the cluster's {len(nodes)} nodes has a GPU"
        )
    if not workers.workers:
        gpus = options.gpus_per_trial
        if gpus < 0:  # automatic
            gpus = 1 if total_gpus >= 1 and workers.use_gpu != "no" else 0
        return _resources(options.cpus_per_trial, gpus, nodes)
    count, gpus_each = allocate(workers, nodes)
    capacity = capacity_of(nodes, workers.cpus_per_worker, gpus_each, at_most=MOST)
    # All workers of a trial run at the same time.
    return Resources(DRIVER_CPUS, 0, max(capacity // count, 1))


def _resources(cpus: float, gpus: float, nodes: list[Node]) -> Resources:
    capacity = capacity_of(nodes, cpus, gpus, at_most=MOST)
    if not capacity:
        total_cpus, total_gpus = (sum(node[index] for node in nodes) for index in (0, 1))
        raise ValueError(
            f"a trial takes {cpus:g} CPUs and {gpus:g} GPUs, but none of the cluster's "
            f"{len(nodes)} node(s), with {total_cpus:g} CPUs and {total_gpus:g} GPUs in total, has "
            "that many; lower --cluster.cpus-per-trial or --cluster.gpus-per-trial, or add nodes"
        )
    return Resources(cpus, gpus, capacity)
