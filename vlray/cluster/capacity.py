"""The Ray cluster: connect to it, and check that it can hold what is asked for."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import ray

from vlray.config.cluster import ClusterSection

WRITE_CPUS = 0.25
_EPSILON = 1e-6  # 0.3 / 0.1 is 2.9999...

log = logging.getLogger("vlray.stream")


class Node(NamedTuple):
    """What one machine of the cluster has."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Allotment:
    """What the detector's actors get, and what is kept free for the other stages."""

    actors: int
    cpus_per_actor: float
    gpus_per_actor: float
    threads: int  # of torch, in each actor
    decode_cpus: float

    def __str__(self) -> str:
        return (
            f"{self.actors} x {self.cpus_per_actor:g} CPUs ({self.threads} threads) "
            f"and {self.gpus_per_actor:g} GPUs"
        )


def connect(options: ClusterSection) -> None:
    """Connect to the cluster that runs, or start a local one that ends with this process.

    A cluster runs where ``cluster.address`` or ``RAY_ADDRESS`` says so (inside ``ray job submit``
    it does), or where ``ray start`` was called on this machine.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Every actor pool of Ray Data makes Ray's core print an error that is none (ray#53727).
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    log.info("starting Ray, or connecting to the cluster that runs")
    with _hushed(), _same_sigterm():
        _init(options)
    total = ray.cluster_resources()
    log.info(
        "Ray %s: %d node(s), %g CPUs, %g GPUs",
        ray.__version__,
        sum(node["Alive"] for node in ray.nodes()),
        total.get("CPU", 0),
        total.get("GPU", 0),
    )


def _init(options: ClusterSection) -> None:
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": True}
    local = {"include_dashboard": False} | quiet
    if options.object_store_gb:
        local["object_store_memory"] = int(options.object_store_gb * 2**30)
    if options.address == "local":
        ray.init("local", **local)
    elif options.address or os.environ.get("RAY_ADDRESS"):
        ray.init(options.address or None, **quiet)
    elif running_here():
        try:
            ray.init("auto", **quiet)
        except ConnectionError as error:
            log.warning("a Ray cluster left its address here but does not answer: %s", error)
            ray.init("local", **local)
    else:
        ray.init("local", **local)


@contextmanager
def _same_sigterm() -> Iterator[None]:
    """Keep this process's handler of SIGTERM, for which ``ray.init`` sets two of its own.

    Python's ends the process by ``sys.exit(15)``; the compiled core's, which comes first, prints a
    dump of the stack and aborts.
    """
    handler = signal.getsignal(signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()
    try:
        yield
    finally:
        if is_main and callable(handler):
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep what Ray's compiled core says of itself at its start from the console.

    It writes to the file descriptor, so Python's logging cannot reach it. Where the start fails,
    everything that was held back is printed.
    """
    sys.stderr.flush()
    console = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(console, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(console, 2)
            os.close(console)


def running_here() -> bool:
    """Tell whether ``ray start`` was called on this machine."""
    from ray._private.utils import read_ray_address

    return read_ray_address() is not None


def living_nodes() -> list[Node]:
    """List the machines that the cluster has now."""
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in found]


def allot(options: ClusterSection, nodes: Sequence[Node], shards: int) -> Allotment:
    """Decide on the actors, and refuse what the cluster cannot hold.

    Ray waits without a word for resources that never come, so this is checked before it starts.

    Args:
        options: What is asked for; 0 and -1 mean automatic.
        nodes: The machines of the cluster.
        shards: Shards to do; more actors than that would only load weights.

    Raises:
        ValueError: More is asked for than there is; both numbers are named.
    """
    gpus_per_actor = options.gpus_per_actor
    if gpus_per_actor < 0:
        gpus_per_actor = 1 if sum(node.gpus for node in nodes) >= 1 else 0
    most, share = _shares(nodes, gpus_per_actor, options.decode_cpus + WRITE_CPUS)
    cpus_per_actor = options.cpus_per_actor or share
    # By the share and not by the number of actors, which falls when little is left to do: another
    # number of threads gives other last digits.
    threads = options.threads_per_actor or max(int(cpus_per_actor), 1)
    actors = options.actors or max(min(most, shards), 1)
    allotment = Allotment(actors, cpus_per_actor, gpus_per_actor, threads, options.decode_cpus)
    while (missing := lacking(allotment, nodes)) and not options.actors and allotment.actors > 1:
        allotment = replace(allotment, actors=allotment.actors - 1)
    if missing:
        raise ValueError(
            f"{missing}; lower --cluster.actors, --cluster.gpus-per-actor or "
            "--cluster.cpus-per-actor, or add nodes"
        )
    return allotment


def _shares(nodes: Sequence[Node], gpus: float, stages: float) -> tuple[int, float]:
    """Give the most actors that make sense, and the CPUs for each of them.

    One thread each is the fastest use of CPUs, and as many detectors as CPUs: the other stages need
    little, so what is reserved for them is taken from the detectors' shares. It is reserved on each
    node, because nobody knows where Ray puts fewer actors.
    """
    most, share = 0, 1.0
    for node in nodes:
        here = _times(node.gpus, gpus) if gpus else int(node.cpus)
        most += here
        if here:
            share = min(share, (node.cpus - stages) / here)
    if not most:
        share = min(share, sum(node.cpus for node in nodes) - stages)
    return most, math.floor(max(share, 0) * 100 + _EPSILON) / 100


def lacking(allotment: Allotment, nodes: Sequence[Node]) -> str:
    """Say what the nodes lack of an allotment, with both numbers; empty where it fits."""
    actors, cpus, gpus = allotment.actors, allotment.cpus_per_actor, allotment.gpus_per_actor
    stages = f"{allotment.decode_cpus:g} to decode and {WRITE_CPUS:g} to write"
    for resource, needed, there, parts in (
        ("GPUs", actors * gpus, sum(node.gpus for node in nodes), f"{actors} actors x {gpus:g}"),
        (
            "CPUs",
            actors * cpus + allotment.decode_cpus + WRITE_CPUS,
            sum(node.cpus for node in nodes),
            f"{actors} actors x {cpus:g}, {stages}",
        ),
    ):
        if needed > there + _EPSILON:
            return f"{needed:g} {resource} are asked for ({parts}), but the cluster has {there:g}"
    if (room := room_of(nodes, cpus, gpus, at_most=actors)) < actors:
        return (
            f"{actors} actors of {cpus:g} CPUs and {gpus:g} GPUs are asked for, but the cluster's "
            f"{len(nodes)} node(s) hold {room}: an actor does not spread over nodes"
        )
    if _may_block(allotment, nodes):
        return (
            f"{actors} actors of {cpus:g} CPUs are asked for, but they can lie so that none of the "
            f"{len(nodes)} nodes has {stages} left"
        )
    return ""


def _may_block(allotment: Allotment, nodes: Sequence[Node]) -> bool:
    """Tell whether the actors can lie so that no node has room for a task of the other stages."""
    task = max(allotment.decode_cpus, WRITE_CPUS)
    enough = 0  # actors to block all nodes
    for node in nodes:
        here = room_of([node], allotment.cpus_per_actor, allotment.gpus_per_actor, at_most=10**9)
        if node.cpus - here * allotment.cpus_per_actor > task - _EPSILON:
            return False
        if node.cpus > task - _EPSILON:
            enough += _times(node.cpus - task, allotment.cpus_per_actor) + 1
    return allotment.actors >= enough


def room_of(nodes: Sequence[Node], cpus: float, gpus: float, *, at_most: int) -> int:
    """Count the actors that the nodes hold, each of them on one node."""
    room = 0
    for node in nodes:
        fitting = [
            _times(there, part) for there, part in zip(node, (cpus, gpus), strict=True) if part
        ]
        room += min(fitting, default=at_most)
    return min(room, at_most)


def _times(there: float, part: float) -> int:
    return max(int(there / part + _EPSILON), 0)
