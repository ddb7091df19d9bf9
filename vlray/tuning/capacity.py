"""How many trials the cluster can hold at the same time."""

from __future__ import annotations

from vlray.cluster.capacity import Node, capacity_of, living_nodes
from vlray.config.training import WorkersSection
from vlray.config.tune import TrialsSection
from vlray.engine.workers import allocate
from vlray.tuning.work import Resources

MOST = 1_000
"""Trials at the same time."""
DRIVER_CPUS = 0.01
"""Of a trial whose workers compute in its place."""


def for_selections(options: TrialsSection) -> Resources:
    """Plan the CPUs of each trial.

    Raises:
        ValueError: The cluster cannot hold a single trial.
    """
    return _resources(options.cpus_per_trial, 0, living_nodes())


def for_trainings(options: TrialsSection, workers: WorkersSection) -> Resources:
    """Plan the CPUs and GPUs of each training, or of its workers.

    Raises:
        ValueError: The cluster cannot hold a single trial.
    """
    nodes = living_nodes()
    there = sum(node.gpus for node in nodes)
    if workers.use_gpu == "yes" and there < 1:
        raise ValueError(
            f"cluster.use_gpu is yes, but none of the cluster's {len(nodes)} nodes has a GPU"
        )
    if not workers.workers:
        gpus = options.gpus_per_trial
        if gpus < 0:
            gpus = 1 if there >= 1 and workers.use_gpu != "no" else 0
        return _resources(options.cpus_per_trial, gpus, nodes)
    count, gpus_each = allocate(workers, nodes)
    capacity = capacity_of(nodes, workers.cpus_per_worker, gpus_each, at_most=MOST)
    return Resources(DRIVER_CPUS, 0, max(capacity // count, 1))


def _resources(cpus: float, gpus: float, nodes: list[Node]) -> Resources:
    capacity = capacity_of(nodes, cpus, gpus, at_most=MOST)
    if not capacity:
        cpus_there, gpus_there = (sum(node[place] for node in nodes) for place in (0, 1))
        raise ValueError(
            f"a trial takes {cpus:g} CPUs and {gpus:g} GPUs, but none of the cluster's "
            f"{len(nodes)} node(s) with {cpus_there:g} CPUs and {gpus_there:g} GPUs has as much; "
            "lower --cluster.cpus-per-trial or --cluster.gpus-per-trial, or add nodes"
        )
    return Resources(cpus, gpus, capacity)
