"""The time limits of work that native code may never finish."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
import time
from collections.abc import Iterator


class _Limits:
    """Time limits of all threads, on the only timer that also ends a process stuck in native code.

    The timer is a thread of native code, which needs no interpreter lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[object, float] = {}
        self._armed: float | None = None
        self._nowhere = -1

    @contextlib.contextmanager
    def until(self, end: float) -> Iterator[None]:
        work = object()
        with self._lock:
            self._ends[work] = end
            self._arm()
        try:
            yield
        finally:
            with self._lock:
                del self._ends[work]
                self._arm()

    def _arm(self) -> None:
        """Set the timer to the first end; the caller holds the lock."""
        first = min(self._ends.values(), default=None)
        if first == self._armed:
            return
        self._armed = first
        if first is None:
            faulthandler.cancel_dump_traceback_later()
            return
        if self._nowhere < 0:
            self._nowhere = os.open(os.devnull, os.O_WRONLY)
        left = max(first - time.monotonic(), 0.001)
        faulthandler.dump_traceback_later(left, exit=True, file=self._nowhere)


_limits = _Limits()


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End this process if the block takes longer. Several threads may have limits at once."""
    with _limits.until(time.monotonic() + seconds):
        yield
