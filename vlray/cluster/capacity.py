"""Resource plans for extractions, checked against the cluster before Ray waits for resources."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from vlray.config.cluster import ClusterSection
from vlray.settings.labels import matches
from vlray.settings.wording import counted

GPU_CPUS = 4  # most CPUs that a detector on a GPU gets, unless the options say otherwise
_EPSILON = 1e-6  # absorbs rounding errors: 0.3 / 0.1 is 2.9999...


class Node(NamedTuple):
    """CPUs and GPUs of one machine in the cluster."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class ResourcePlan:
    """Resources for the actors, which decode images and detect regions."""

    actors: int
    cpus_per_actor: float
    gpus_per_actor: float
    threads: int  # torch threads per actor

    @property
    def decode_threads(self) -> int:
        """Threads per actor that decode: on CPUs one, which shares the detector's CPUs."""
        return max(int(self.cpus_per_actor), 1) if self.gpus_per_actor else 1

    def __str__(self) -> str:
        return (
            f"{self.actors} x {self.cpus_per_actor:g} CPUs ({self.threads} threads) "
            f"and {self.gpus_per_actor:g} GPUs"
        )


def living_nodes(label_selector: Mapping[str, str] | None = None) -> list[Node]:
    """Return the nodes of the cluster that are alive, and whose labels match a selector."""
    import ray  # extractions without Ray plan their threads with this module

    resources = [
        node["Resources"]
        for node in ray.nodes()
        if node["Alive"] and matches(label_selector or {}, node["Labels"])
    ]
    return [Node(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in resources]


def allocate(options: ClusterSection, nodes: Sequence[Node], shards: int) -> ResourcePlan:
    """Plan the actors' resources, and refuse a plan that the cluster cannot hold.

    Ray waits silently for resources that never become available, so the plan is checked first.

    Args:
        options: Requested resources; 0 and -1 mean automatic.
        nodes: Nodes of the cluster.
        shards: Number of shards to process; additional actors would load weights for nothing.

    Raises:
        ValueError: The request exceeds the cluster; the message states both numbers.
    """
    gpus_per_actor = options.gpus_per_actor
    if gpus_per_actor < 0:
        gpus_per_actor = 1 if sum(node.gpus for node in nodes) >= 1 else 0
    most, share = _shares(nodes, gpus_per_actor)
    cpus_per_actor = options.cpus_per_actor or share or 1.0
    # The number of threads changes the last digits of the features, so that it depends on the
    # options only. On a GPU, the CPUs decode.
    cpus = 0 if gpus_per_actor else int(options.cpus_per_actor)
    threads = options.threads_per_actor or max(cpus, 1)
    actors = options.actors or max(min(most, shards), 1)
    plan = ResourcePlan(actors, cpus_per_actor, gpus_per_actor, threads)
    # Shrink an automatic plan until it fits; a requested number of actors stays as it is.
    while (missing := shortage(plan, nodes)) and not options.actors and plan.actors > 1:
        plan = replace(plan, actors=plan.actors - 1)
    if missing:
        raise ValueError(
            f"{missing}; lower --cluster.actors, --cluster.gpus-per-actor or "
            "--cluster.cpus-per-actor, or add nodes"
        )
    # Also a requested number: Ray Data warns of actors without work.
    return replace(plan, actors=min(plan.actors, max(shards, 1)))


def _shares(nodes: Sequence[Node], gpus: float) -> tuple[int, float]:
    """Return the largest useful number of actors, and the CPUs for each actor.

    One single-threaded detector per CPU makes the best use of CPUs. A GPU needs several CPUs, which
    decode its images.
    """
    most, share = 0, float(GPU_CPUS if gpus else 1)
    for node in nodes:
        here = _on_gpus(node.gpus, gpus) if gpus else int(node.cpus)
        most += here
        # All actors get equal shares, so the node with the least CPUs per actor decides.
        if here:
            share = min(share, node.cpus / here)
    if not most:
        share = min(share, sum(node.cpus for node in nodes))
    return most, math.floor(share * 100 + _EPSILON) / 100


def shortage(plan: ResourcePlan, nodes: Sequence[Node]) -> str:
    """Describe the resources that the nodes lack for a plan; return "" if the plan fits."""
    actors, cpus, gpus = plan.actors, plan.cpus_per_actor, plan.gpus_per_actor
    for resource, per_actor, there in (
        ("GPUs", gpus, sum(node.gpus for node in nodes)),
        ("CPUs", cpus, sum(node.cpus for node in nodes)),
    ):
        if actors * per_actor > there + _EPSILON:
            return (
                f"{actors * per_actor:g} {resource} are requested ({actors} actors x "
                f"{per_actor:g}), but the cluster has {there:g}"
            )
    if (capacity := capacity_of(nodes, cpus, gpus, at_most=actors)) < actors:
        return (
            f"{counted(actors, 'actor')} with {cpus:g} CPUs and {gpus:g} GPUs each are requested, "
            f"but only {capacity} fit on {counted(len(nodes), 'node')}: all resources of an actor "
            f"must be on the same node{', a fraction of a GPU on one GPU' if 0 < gpus < 1 else ''}"
        )
    return ""


def capacity_of(nodes: Sequence[Node], cpus: float, gpus: float, *, at_most: int) -> int:
    """Return how many actors fit on the nodes; an actor cannot span two nodes."""
    capacity = 0
    for node in nodes:
        fitting = [_times(node.cpus, cpus)] if cpus else []
        fitting += [_on_gpus(node.gpus, gpus)] if gpus else []
        capacity += min(fitting, default=at_most)
    return min(capacity, at_most)


def _on_gpus(there: float, part: float) -> int:
    """Return how many actors fit on a node's GPUs; Ray never splits a fraction over two GPUs."""
    return int(there) * _times(1, part) if part < 1 else _times(there, part)


def _times(there: float, part: float) -> int:
    return max(int(there / part + _EPSILON), 0)
