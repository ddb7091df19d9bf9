"""Deadlines that stretch with the load: a busy machine makes tests slow, not red.

What a test waits for in a loop has a deadline here. Waiting for a process to end needs none of
its own: the timeout of the test, which is stretched as well (conftest.py), ends that too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def slowdown() -> float:
    """Return about how many times longer work takes than on a quiet machine; at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def wait_until(
    condition: Callable[[], object],
    seconds: float = 60,
    *,
    every: float = 0.05,
    failure: Callable[[], object] = lambda: "",
) -> None:
    """Poll until a condition holds.

    Args:
        condition: Called once in each round.
        seconds: How long that may take on a quiet machine. The load is looked at in each round, so
            a machine that becomes busy meanwhile gets more.
        every: Seconds between two rounds.
        failure: Called once the time is up; its result is the message.

    Raises:
        AssertionError: The condition did not hold in time.
    """
    left, before = seconds, time.monotonic()
    while not condition():
        time.sleep(every)
        now = time.monotonic()
        left -= (now - before) / slowdown()
        before = now
        assert left > 0, f"waited for {seconds:g} seconds of a quiet machine; {failure()}"
