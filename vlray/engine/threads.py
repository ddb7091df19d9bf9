"""Compute threads of a training on a CPU."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path

import torch

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")

log = logging.getLogger("vlray.engine")


def set_threads() -> None:
    """Use as many compute threads as this process has cores, unless OMP_NUM_THREADS is set.

    By default, torch uses the cores of the machine, even if a container or ``taskset`` allows only
    some of them. Ray sets OMP_NUM_THREADS in its workers.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    torch.set_num_threads(usable_cores())
    log.debug("%d compute threads (OMP_NUM_THREADS changes this)", torch.get_num_threads())


def usable_cores() -> int:
    """Return the number of cores that this process may use: affinity, limited by the cgroup."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, _, period = CPU_MAX.read_text().partition(" ")  # microseconds; "max": no limit
        cores = min(cores, max(math.floor(int(quota) / int(period)), 1))
    except (OSError, ValueError):
        pass  # no cgroup, or no limit
    return cores
