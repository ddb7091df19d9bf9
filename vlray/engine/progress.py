"""Progress bar and progress log of a training."""

from __future__ import annotations

import logging
import math
import time
from datetime import timedelta

from vlray.runs.progress import Bar

SECONDS_BETWEEN_LINES = 30.0
BAR = "{percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
"""Format of the bar. The postfix includes the speed in examples per second, not steps."""
SMOOTHING = 0.95
"""Weight of the previous average in the exponential moving average of the loss."""

log = logging.getLogger("vlray.engine")


class TrainingBar:
    """Shows the progress of a training as a bar or as lines.

    The log gets a line every 30 s even if there is a bar, so that ``vlray logs --follow`` can show
    the run in another terminal.
    """

    def __init__(self, steps: int, done: int = 0) -> None:
        """Show the bar.

        Args:
            steps: Total number of steps.
            done: Number of steps that earlier runs have completed.
        """
        self.epoch = math.nan
        self._steps = steps
        self._loss = math.nan
        self._examples = 0
        self._since = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._bar = Bar(steps, " steps", SECONDS_BETWEEN_LINES, done=done, form=BAR)

    def to(self, step: int, loss: float, lr: float, examples: int) -> None:
        """Advance the bar to a completed step.

        Args:
            step: Number of the completed step, from 1.
            loss: Loss of the step.
            lr: Learning rate of the step.
            examples: Number of examples in the step.
        """
        now = time.monotonic()
        # Estimate the remaining time without the first step, which also starts the loader's
        # workers and compiles the model.
        self._first = self._first or (now, step)
        is_finite = math.isfinite(self._loss)
        self._loss = SMOOTHING * self._loss + (1 - SMOOTHING) * loss if is_finite else loss
        self._examples += examples
        if self._bar.style == "bar":
            self._bar.to(step, self._words(lr, self._bar.rate * examples))
        if self._bar.is_line_due(now):
            self._bar.say(log, self._line(step, lr, now))
            self._since, self._examples = now, 0

    def close(self) -> None:
        """Remove the bar from the console."""
        self._bar.close()

    def _words(self, lr: float, rate: float) -> str:
        epoch = f", epoch {self.epoch:.2f}" if math.isfinite(self.epoch) else ""
        return f"loss {self._loss:.4g}, lr {lr:.2e}, {rate:.1f} examples/s{epoch}"

    def _line(self, step: int, lr: float, now: float) -> str:
        rate = self._examples / max(now - self._since, 1e-9)
        line = f"step {step:,}/{self._steps:,}: {self._words(lr, rate)}"
        since, before = self._first or (now, step)
        # Remaining time needs at least one timed step.
        if step == before:
            return line
        seconds_left = round((self._steps - step) * (now - since) / (step - before))
        return f"{line}, {timedelta(seconds=seconds_left)} left"
