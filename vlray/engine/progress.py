"""How far a training is: a line that moves on a terminal, a line now and then in the log."""

from __future__ import annotations

import logging
import math
import sys
import time
from datetime import timedelta
from typing import Never

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0
SMOOTHING = 0.95
"""What a step's loss leaves of the smoothed one."""

log = logging.getLogger("vlray.engine.progress")


class Progress:
    """Counts steps towards the end; the log has a line every 30 s, whether there is a bar or not.

    So `vlray logs --follow` also shows what a run on another terminal does.
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
        self._first: tuple[float, int] | None = None
        self._last = time.monotonic()
        self._bar: tqdm[Never] = tqdm(
            total=steps,
            initial=done,
            unit=" steps",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            smoothing=0.05,
        )
        self._filter = _AboveBar(self._bar)
        for handler in _consoles():
            handler.addFilter(self._filter)

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
        if not self._bar.disable:
            self._bar.set_postfix_str(self._postfix(step, lr, examples), refresh=False)
            self._bar.update(step - self._bar.n)
        since = self._last
        if now - since < SECONDS_BETWEEN_LINES:
            return
        log.info("%s", self._line(step, lr, self._examples / (now - since), now))
        self._last, self._examples = now, 0

    def close(self) -> None:
        """End the bar, and leave the console to others."""
        self._bar.close()
        for handler in _consoles():
            handler.removeFilter(self._filter)

    def _postfix(self, step: int, lr: float, examples: int) -> str:
        rate = (self._bar.format_dict["rate"] or 0) * examples
        epoch = f", epoch {self.epoch:.2f}" if math.isfinite(self.epoch) else ""
        return f"loss {self._loss:.4g}, lr {lr:.2e}, {rate:.1f} examples/s{epoch}"

    def _line(self, step: int, lr: float, rate: float, now: float) -> str:
        epoch = f" (epoch {self.epoch:.2f})" if math.isfinite(self.epoch) else ""
        line = (
            f"step {step:,}/{self._steps:,}{epoch}: loss {self._loss:.4g}, lr {lr:.2e}, "
            f"{rate:.1f} examples/s"
        )
        since, before = self._first or (now, step)
        if step == before:
            return line
        left = round((self._steps - step) * (now - since) / (step - before))
        return f"{line}, {timedelta(seconds=left)} left"


class _AboveBar(logging.Filter):
    """Keeps a console's lines apart from the bar: takes the bar off before a line is written.

    The lines that say what the bar says already are left out.
    """

    def __init__(self, bar: tqdm[Never]) -> None:
        super().__init__()
        self._bar = bar

    def filter(self, record: logging.LogRecord) -> bool:
        if self._bar.disable:
            return True
        self._bar.clear()
        return record.name != log.name


def _consoles() -> list[logging.Handler]:
    """List the handlers of vlray's log that write to this process's terminal."""
    return [
        handler
        for handler in logging.getLogger("vlray").handlers
        if isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
    ]
