"""Stop requests: Ctrl-C and SIGTERM end a training after the current step."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger("vlray.engine")


class StopRequest:
    """Flag that makes a training stop after the current step."""

    def __init__(self) -> None:
        self._is_requested = False
        self.has_begun = False
        """Whether the first step has begun. Before it, a signal interrupts at once."""

    def requested(self) -> bool:
        """Return whether the training should stop."""
        return self._is_requested

    def request(self) -> None:
        """Ask the training to stop."""
        self._is_requested = True


@contextmanager
def on_signals(stop: StopRequest) -> Iterator[None]:
    """Treat Ctrl-C and SIGTERM as stop requests inside the ``with`` block.

    A second signal, or a signal before the first step, raises KeyboardInterrupt.
    """
    # Python allows signal handlers only in the main thread.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.requested() or not stop.has_begun:
            raise KeyboardInterrupt
        log.warning(
            "stopping after the current step, with a checkpoint; press Ctrl-C again to stop at once"
        )
        stop.request()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
