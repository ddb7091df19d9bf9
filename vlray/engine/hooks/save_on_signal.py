"""Checkpoints on a signal, for schedulers that warn before they preempt."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from vlray.engine.hooks.protocol import Hook
from vlray.engine.training import Training


class SaveOnSignal(Hook):
    """Saves a checkpoint after the step in which SIGUSR1 arrives, and goes on training.

    Slurm sends it two minutes before the end with ``#SBATCH --signal=USR1@120``. SIGTERM needs no
    hook: it saves and stops.
    """

    def __init__(self) -> None:
        self._is_asked = False
        self._previous: Any = None

    def begin(self, training: Training) -> None:
        """Listen, if this is the main thread; Python allows signal handlers only there."""
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGUSR1, self._handle)

    def wants_save(self, training: Training) -> bool:
        """Return whether the signal has arrived since the last call."""
        is_asked, self._is_asked = self._is_asked, False
        return is_asked

    def end(self, training: Training) -> None:
        """Stop listening."""
        if self._previous is not None:
            signal.signal(signal.SIGUSR1, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._is_asked = True
