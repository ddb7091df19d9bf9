"""Growth of a cluster: requests to Ray's autoscaler, and the wait for the nodes that it starts.

Ray 2.60 does not report how far a cluster may grow, so a request is sized by its answer. Version 1
of the autoscaler serves as much of a request as it can. Version 2, the default of KubeRay, serves a
request as a whole or not at all, but reports what it cannot serve.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import ray

from vlray.cluster.capacity import Node, ResourcePlan, allocate, capacity_of, living_nodes
from vlray.config.cluster import ClusterSection
from vlray.config.training import WorkersSection
from vlray.settings.wording import counted

MOST = 1000  # actors that are requested unless the options name a number
WAIT_S = 1800.0  # default of ``cluster.wait`` where nodes are started on demand
ASK_S = 10.0  # between two requests; Ray Data's own requests replace them
POLL_S = 1.0  # between two looks at a cluster that has no room yet
_GROUP = "ray.io/node-group"
"""Label of nodes that a cluster launcher, KubeRay or an autoscaler has started."""

T = TypeVar("T")

log = logging.getLogger("vlray.cluster")


class Cluster(Protocol):
    """What `plan_actors` asks of a cluster; `RayCluster` is the connected one."""

    def nodes(self) -> list[Node]:
        """Return the living nodes that the run may use."""

    def starts_on_demand(self) -> bool:
        """Return whether nodes are started on demand, as in Kubernetes."""

    def request(self, bundle: Mapping[str, float], actors: int) -> None:
        """Request nodes with room for some actors, each with the resources of a bundle."""

    def refused(self, bundle: Mapping[str, float]) -> int | None:
        """Return the size of a refused request, 0 if none is refused; None: see `Size`."""

    def pause(self, seconds: float) -> None:
        """Let time pass."""


class RayCluster:
    """The cluster to which this process is connected."""

    def __init__(self, label_selector: Mapping[str, str]) -> None:
        """Use only the nodes whose labels match a selector."""
        self._labels = dict(label_selector)

    def nodes(self) -> list[Node]:
        """See `Cluster.nodes`."""
        return living_nodes(self._labels)

    def starts_on_demand(self) -> bool:
        """See `Cluster.starts_on_demand`."""
        return any(node["Alive"] and node["Labels"].get(_GROUP) for node in ray.nodes())

    def request(self, bundle: Mapping[str, float], actors: int) -> None:
        """See `Cluster.request`; a later request replaces an earlier one."""
        from ray.autoscaler.sdk import request_resources

        labels = [self._labels] * actors if self._labels else None
        request_resources(bundles=[dict(bundle)] * actors, bundle_label_selectors=labels)

    def refused(self, bundle: Mapping[str, float]) -> int | None:
        """See `Cluster.refused`."""
        # Private in Ray 2.60: `ray status` prints this reply, but the Python API leaves refused
        # requests out.
        from ray._raylet import GcsClient  # type: ignore[attr-defined] # compiled
        from ray.autoscaler.v2.utils import is_autoscaler_v2
        from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply

        if not is_autoscaler_v2():
            return None
        reply = GetClusterStatusReply()
        client = GcsClient(ray.get_runtime_context().gcs_address)
        reply.ParseFromString(client.get_cluster_status(timeout_s=10))
        for constraint in reply.autoscaling_state.infeasible_cluster_resource_constraints:
            for request in constraint.resource_requests:
                if dict(request.request.resources_bundle) == dict(bundle):
                    return int(request.count)
        return 0

    def pause(self, seconds: float) -> None:
        """See `Cluster.pause`."""
        time.sleep(seconds)


class Growth:
    """The request of one run to the autoscaler, from the first node to the last shard."""

    def __init__(
        self, cluster: Cluster, cpus: float, gpus: float, most: int, *, explicit: bool
    ) -> None:
        """Describe the request; `ask` sends it.

        Args:
            cluster: The cluster that may grow.
            cpus: CPUs of an actor.
            gpus: GPUs of an actor.
            most: Largest useful number of actors.
            explicit: Whether a user has named this number.
        """
        self.most = most
        self._cluster = cluster
        self._bundle = {"CPU": cpus} | ({"GPU": gpus} if gpus else {})
        self._size = Size(most, explicit=explicit)
        self._capacity = 0
        self._asked_at = -math.inf

    def ask(self, capacity: int) -> None:
        """Request nodes for more actors, unless that was done a moment ago.

        Args:
            capacity: Number of actors for which the living nodes have room.
        """
        if capacity != self._capacity and self._capacity:
            log.info("the cluster has room for %s now", counted(capacity, "detector"))
        self._capacity = capacity
        now = time.monotonic()
        if now < self._asked_at + ASK_S:
            return
        self._asked_at = now
        self._size.adjust(capacity, self._cluster.refused(self._bundle))
        self._cluster.request(self._bundle, self._size.value)

    def check(self, plan: ResourcePlan) -> None:
        """Ask again during the run of a plan, as Ray Data's own requests replace this one."""
        if time.monotonic() >= self._asked_at + ASK_S:
            cpus, gpus = plan.cpus_per_actor, plan.gpus_per_actor
            self.ask(capacity_of(self._cluster.nodes(), cpus, gpus, at_most=self.most))

    def close(self) -> None:
        """Withdraw the request, so that idle nodes may end."""
        if math.isfinite(self._asked_at):
            self._cluster.request(self._bundle, 0)


class Size:
    """Number of actors to request: as many as the autoscaler serves.

    A request that is served as a whole or not at all doubles until it is refused; then the largest
    number that is served is searched between the two.
    """

    def __init__(self, most: int, *, explicit: bool) -> None:
        """Describe the search; `adjust` sets the first value.

        Args:
            most: Largest useful number.
            explicit: Whether a user has named this number, so that it is requested first.
        """
        self.value = 0
        self._most = self._limit = most
        self._first = most if explicit else 1
        self._served = 0

    def adjust(self, capacity: int, refused: int | None) -> None:
        """Set the next value.

        Args:
            capacity: Number of actors for which living nodes have room.
            refused: Number of actors of a refused request, 0 if none is refused; None: the
                autoscaler serves requests in part.
        """
        if refused is None:
            self.value = self._most
            return
        if refused:
            self._limit = min(self._limit, max(refused - 1, 1))
            self._served = min(max(self._served, capacity), self._limit)
        else:
            self._served = max(self._served, self.value)
        if not self.value:
            self.value = self._first
        elif self._limit < self._most:
            self.value = (self._served + self._limit + 1) // 2
        else:
            self.value = min(2 * self._served, self._most)


def plan_actors(
    options: ClusterSection, shards: int, cluster: Cluster, *, on_cpu: bool
) -> tuple[ResourcePlan, Growth | None]:
    """Plan the actors of a run; on a cluster that may grow, request nodes and wait for the first.

    Args:
        options: Requested resources.
        shards: Number of shards to process.
        cluster: The cluster.
        on_cpu: Whether the options demand the CPU.

    Returns:
        The plan for the nodes that live, and the request for more of them; None: the cluster does
        not grow.

    Raises:
        ValueError: The cluster cannot hold the actors, also after ``cluster.wait`` seconds.
    """
    if on_cpu and options.gpus_per_actor < 0:
        options = options.model_copy(update={"gpus_per_actor": 0.0})
    seconds = wait_limit(options, cluster)
    if not seconds:
        if not (nodes := cluster.nodes()) and options.label_selector:
            labels = ", ".join(
                f"{label}={value}" for label, value in options.label_selector.items()
            )
            raise ValueError(f"no living node has the labels {labels} (--cluster.label-selector)")
        return allocate(options, nodes, shards), None
    # GPU nodes may not be up yet. Without the user's word, a run never falls back to CPUs.
    gpus = 1.0 if options.gpus_per_actor < 0 else options.gpus_per_actor
    most = min(options.actors or MOST, max(shards, 1))
    cpus, explicit = options.cpus_per_actor or 1, options.actors > 0
    growth = Growth(cluster, cpus, gpus, most, explicit=explicit)
    first = options.model_copy(update={"actors": 0, "gpus_per_actor": gpus})
    hint = "--detector.device cpu extracts on CPUs" if gpus else ""
    try:
        plan = first_fit(lambda nodes: allocate(first, nodes, most), cluster, growth, seconds, hint)
        growth.ask(plan.actors)
    except BaseException:
        growth.close()
        raise
    return plan, growth


def first_fit(
    plan: Callable[[list[Node]], T], cluster: Cluster, growth: Growth, seconds: float, hint: str
) -> T:
    """Wait until a plan fits on the living nodes, and return it.

    Args:
        plan: Returns the plan for some nodes, or raises ValueError.
        cluster: The cluster that may grow.
        growth: Request for nodes, which is sent and repeated while waiting.
        seconds: Longest wait.
        hint: How to do without GPUs, or "".

    Raises:
        ValueError: Too few nodes have joined in this time.
    """
    began, minutes = time.monotonic(), -1
    while True:
        try:
            return plan(cluster.nodes())
        except ValueError as error:
            reason = str(error).partition(";")[0]
            waited = time.monotonic() - began
            if waited >= seconds:
                raise ValueError(_gave_up(reason, seconds, hint)) from None
        growth.ask(0)
        if int(waited / 60) > minutes:
            minutes = int(waited / 60)
            limit = counted(math.ceil(seconds / 60), "minute")
            more = f"; {hint}" if hint and not minutes else ""
            log.info("waiting for nodes: %s (%d of %s)%s", reason, minutes, limit, more)
        cluster.pause(POLL_S)


def wait_limit(options: ClusterSection | WorkersSection, cluster: Cluster) -> float:
    """Return how many seconds to wait for nodes; 0: the cluster does not grow."""
    if options.wait >= 0:
        return options.wait
    # A local Ray inside a pod of KubeRay has the pod's labels.
    return WAIT_S if options.address != "local" and cluster.starts_on_demand() else 0.0


def _gave_up(reason: str, seconds: float, hint: str) -> str:
    advice = (
        "raise --cluster.wait, or look at `ray status` and the autoscaler's log for the cause; a "
        "request that exceeds every kind of node is never fulfilled"
    )
    end = f"; {hint}" if hint else ""
    return f"too few nodes have joined in {seconds:g} seconds: {reason}; {advice}{end}"
