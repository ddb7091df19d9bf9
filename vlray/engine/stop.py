"""Ends a training between two steps when somebody wants it to: Ctrl-C, SIGTERM."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger("vlray.engine")


class Stop:
    """Whether the training is to end after the step that is under way."""

    def __init__(self) -> None:
        self._is_wanted = False
        self.has_begun = False
        """Whether there are steps that a checkpoint would keep; before, a signal interrupts."""

    def wanted(self) -> bool:
        """Tell whether it is."""
        return self._is_wanted

    def ask(self) -> None:
        """Ask for it."""
        self._is_wanted = True


@contextmanager
def on_signals(stop: Stop) -> Iterator[None]:
    """Take Ctrl-C and SIGTERM as the wish to stop, while it lasts; the second Ctrl-C interrupts."""
    if threading.current_thread() is not threading.main_thread():  # signals are not its business
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.wanted() or not stop.has_begun:
            raise KeyboardInterrupt
        log.warning("stopping after this step, with a checkpoint; Ctrl-C again stops at once")
        stop.ask()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
