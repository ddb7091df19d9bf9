"""The Ray cluster: connect to it, and check that it can hold what is asked for."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from vlray.config.cluster import ClusterSection

WRITE_CPUS = 0.25

log = logging.getLogger("vlray.stream")


@dataclass(frozen=True)
class Allotment:
    """What the detector's actors get."""

    actors: int
    cpus_per_actor: float
    gpus_per_actor: float
    threads: int  # of torch, in each actor

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
    with _hushed():
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
    elif _running_here():
        try:
            ray.init("auto", **quiet)
        except ConnectionError as error:
            log.warning("a Ray cluster left its address here but does not answer: %s", error)
            ray.init("local", **local)
    else:
        ray.init("local", **local)


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


def _running_here() -> bool:
    """Tell whether ``ray start`` was called on this machine."""
    from ray._private.utils import read_ray_address

    return read_ray_address() is not None


def allot(options: ClusterSection, cpus: float, gpus: float, shards: int) -> Allotment:
    """Decide on the actors, and refuse what the cluster cannot hold.

    Ray waits without a word for resources that never come, so this is checked before it starts.

    Args:
        options: What is asked for; 0 and -1 mean automatic.
        cpus: All CPUs of the cluster.
        gpus: All GPUs of the cluster.
        shards: Shards to do; more actors than that would only load weights.

    Raises:
        ValueError: More is asked for than there is; both numbers are named.
    """
    stages = options.decode_cpus + WRITE_CPUS
    cpus_per_actor = options.cpus_per_actor
    gpus_per_actor = options.gpus_per_actor
    if gpus_per_actor < 0:
        gpus_per_actor = 1 if gpus >= 1 else 0
    actors = options.actors
    if not actors:
        # On a machine of one CPU, the actor shares it with the other stages.
        cpus_per_actor = max(min(cpus_per_actor, cpus - stages), 0)
        fitting = (cpus - stages) / cpus_per_actor if cpus_per_actor else 1
        if gpus_per_actor:
            fitting = min(fitting, gpus / gpus_per_actor)
        actors = max(min(int(fitting), shards), 1)
    for resource, needed, there, parts in (
        ("GPUs", actors * gpus_per_actor, gpus, f"{actors} actors x {gpus_per_actor:g}"),
        (
            "CPUs",
            actors * cpus_per_actor + stages,
            cpus,
            f"{actors} actors x {cpus_per_actor:g}, {options.decode_cpus:g} to decode and "
            f"{WRITE_CPUS:g} to write",
        ),
    ):
        if needed > there + 1e-6:
            raise ValueError(
                f"{needed:g} {resource} are asked for ({parts}), but the cluster has {there:g}; "
                "lower --cluster.actors, --cluster.gpus-per-actor or --cluster.cpus-per-actor, "
                "or add nodes"
            )
    threads = options.threads_per_actor or max(int(cpus) // actors, 1)
    return Allotment(actors, cpus_per_actor, gpus_per_actor, threads)
