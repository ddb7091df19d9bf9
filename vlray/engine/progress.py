"""How far a training is."""

from __future__ import annotations

import logging
import math
import time
from datetime import timedelta

from vlray.runs.progress import Bar

SECONDS_BETWEEN_LINES = 30.0
BAR = "{percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
"""Its speed is among the words: in examples, not in steps."""
SMOOTHING = 0.95
"""What a step's loss leaves of the smoothed one."""

log = logging.getLogger("vlray.engine")


class Progress:
    """Counts steps towards the end.

    The log has a line every 30 s also where there is a bar, so that ``vlray logs --follow`` shows
    what a run on another terminal does.
    """

    def __init__(self, steps: int, done: int = 0) -> None:
        """Begin.

        Args:
            steps: Those of the whole training.
            done: Those that an earlier run has done.
        """
        self.epoch = math.nan
        self._steps = steps
        self._loss = math.nan
        self._examples = 0
        self._since = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._bar = Bar(steps, " steps", SECONDS_BETWEEN_LINES, done=done, form=BAR)

    def to(self, step: int, loss: float, lr: float, examples: int) -> None:
        """Come to the end of a step.

        Args:
            step: Number of the step that was done, from 1.
            loss: Its loss.
            lr: Its learning rate.
            examples: How many examples it was of.
        """
        now = time.monotonic()
        # The first step also waits for the loader's workers, and for what is compiled.
        self._first = self._first or (now, step)
        known = math.isfinite(self._loss)
        self._loss = SMOOTHING * self._loss + (1 - SMOOTHING) * loss if known else loss
        self._examples += examples
        if self._bar.style == "bar":
            self._bar.to(step, self._words(lr, self._bar.rate * examples))
        if self._bar.is_line_due(now):
            self._bar.say(log, self._line(step, lr, now))
            self._since, self._examples = now, 0

    def close(self) -> None:
        """Leave the console to others."""
        self._bar.close()

    def _words(self, lr: float, rate: float) -> str:
        epoch = f", epoch {self.epoch:.2f}" if math.isfinite(self.epoch) else ""
        return f"loss {self._loss:.4g}, lr {lr:.2e}, {rate:.1f} examples/s{epoch}"

    def _line(self, step: int, lr: float, now: float) -> str:
        rate = self._examples / max(now - self._since, 1e-9)
        line = f"step {step:,}/{self._steps:,}: {self._words(lr, rate)}"
        since, before = self._first or (now, step)
        if step == before:
            return line
        left = round((self._steps - step) * (now - since) / (step - before))
        return f"{line}, {timedelta(seconds=left)} left"
