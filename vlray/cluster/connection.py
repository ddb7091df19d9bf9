"""Connect to a Ray cluster, or start a local one, quietly and without changing the environment."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vlray.cluster.console import to_log_file
from vlray.config.cluster import ClusterSection
from vlray.settings.log_format import DETAIL
from vlray.settings.wording import counted

log = logging.getLogger("vlray.cluster")

_AT_START = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Environment variables that Ray reads at startup and for which ``ray.init`` has no argument."""


def connect(options: ClusterSection) -> None:
    """Connect to a running cluster, or start a local one that ends with this process.

    If this process is already connected, the connection is kept. Otherwise the address is the first
    of: ``cluster.address``, ``RAY_ADDRESS`` (which ``ray job submit`` sets), and the address of a
    cluster that ``ray start`` started on this machine.

    Raises:
        RuntimeError: A local Ray did not start, also when it was tried again.
        ConnectionError: The cluster at the address does not respond.
    """
    import ray  # extractions without Ray use this module to look for a cluster

    if ray.is_initialized():
        return
    log.info("starting Ray, or connecting to the running cluster", extra=DETAIL)
    with default_variables(_AT_START), _same_sigterm():
        _init(options)
    total = ray.cluster_resources()
    log.info(
        "Ray %s: %s, %g CPUs, %g GPUs",
        ray.__version__,
        counted(sum(node["Alive"] for node in ray.nodes()), "node"),
        total.get("CPU", 0),
        total.get("GPU", 0),
        extra=DETAIL,
    )


def _init(options: ClusterSection) -> None:
    quiet: dict[str, object] = {"logging_level": logging.ERROR, "log_to_driver": True}
    local = {"include_dashboard": False} | quiet
    # Only a local Ray takes this size; a running cluster has its own object stores.
    if options.object_store_gb:
        local["object_store_memory"] = int(options.object_store_gb * 2**30)
    # Passing "local" also prevents `ray.init` from connecting to RAY_ADDRESS.
    if options.address == "local":
        _start(local)
    elif options.address or os.environ.get("RAY_ADDRESS"):
        _ray_init(options.address or None, **quiet)
    elif running_here():
        try:
            _ray_init("auto", **quiet)
        except ConnectionError as error:
            log.warning(
                "starting a local Ray, because the cluster on this machine does not respond: %s",
                error,
            )
            _start(local)
    else:
        _start(local)


def _start(arguments: dict[str, object]) -> None:
    """Start a local Ray; try it once again if it does not start in time.

    Ray gives its processes 30 seconds or less, which a busy machine may exceed.
    """
    import ray

    try:
        with _no_dashboard():
            _ray_init("local", **arguments)
    except (ValueError, TypeError):  # of the arguments
        raise
    except Exception as error:
        log.warning("Ray did not start (%s); trying once more", _first_line(error))
        ray.shutdown()
        try:
            _ray_init("local", **arguments)
        except Exception as again:
            ray.shutdown()
            raise RuntimeError(
                f"Ray did not start on this machine, tried twice ({_first_line(again)}); its "
                "processes must start within 30 seconds: wait until the machine is less busy or "
                "has more free memory, use a running cluster (--cluster.address), or, to extract, "
                "run without Ray (--cluster.address none)"
            ) from again


def _ray_init(address: str | None, **arguments: object) -> None:
    import ray

    with _held_back():
        ray.init(address, **arguments)


@contextmanager
def _no_dashboard() -> Iterator[None]:
    """Keep ``ray.init`` from starting the process of the dashboard.

    Even with ``include_dashboard=False``, Ray starts this process for its usage statistics, and
    waiting for it takes a third of the time of ``ray.init``.
    """
    # Private in Ray 2.60, which has no public option. (None, None) is what Ray's own function
    # returns if the dashboard cannot be started.
    from ray._private import services

    start = getattr(services, "start_api_server", None)
    if start is not None:
        services.start_api_server = lambda *_, **__: (None, None)
    try:
        yield
    finally:
        if start is not None:
            services.start_api_server = start


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextmanager
def default_variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that are not set yet, and unset them afterwards."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _same_sigterm() -> Iterator[None]:
    """Restore this process's SIGTERM handler after ``ray.init``, which installs two of its own.

    Ray's Python handler calls ``sys.exit(15)``. The handler of its compiled core, which runs first,
    prints a stack dump and aborts.
    """
    handler = signal.getsignal(signal.SIGTERM)
    is_main = threading.current_thread() is threading.main_thread()
    try:
        yield
    finally:
        if is_main and callable(handler):
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _held_back() -> Iterator[None]:
    """Log what Ray's compiled core prints while it starts, for the log file.

    The core writes to file descriptor 2, which Python's logging does not control.
    """
    sys.stderr.flush()
    console = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(console, 2)
            os.close(console)
            held.seek(0)
            if text := held.read().decode(errors="replace").strip():
                to_log_file(logging.INFO, text)


def is_cluster_configured() -> bool:
    """Return whether `connect` would use a connection or a cluster that exists already."""
    if "RAY_ADDRESS" in os.environ:
        return True
    # Ray records a started cluster in this file. Without the file, there is no need to import Ray,
    # which takes half a second.
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    if "ray" not in sys.modules and not Path(folder, "ray", "ray_current_cluster").exists():
        return False
    import ray

    return ray.is_initialized() or running_here()


def running_here() -> bool:
    """Return whether ``ray start`` has started a cluster on this machine."""
    # Private in Ray 2.60. The public alternative, ray.init("auto"), would also connect.
    from ray._private.utils import read_ray_address

    return read_ray_address() is not None
