"""How far a run is: a bar on a terminal, plain lines in a job's log."""

from __future__ import annotations

import logging
import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import Literal, Self

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0

log = logging.getLogger("vlray.stream")


class Progress:
    """Counts images; use it in a ``with`` block."""

    def __init__(self, total: int, style: Literal["auto", "bar", "lines", "none"]) -> None:
        """Begin counting towards ``total`` images."""
        if style == "auto":
            style = "bar" if sys.stderr.isatty() else "lines"
        self.done = self.failed = 0
        self._total = total
        self._lines = style == "lines"
        self._last_line = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._bar = tqdm(total=total, unit=" images", disable=style != "bar", smoothing=0.1)

    def __enter__(self) -> Self:
        """Show the empty bar."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the bar."""
        self._bar.close()

    def add(self, done: int, failed: int) -> None:
        """Count a shard: its images, and how many of them failed."""
        now = time.monotonic()
        self.done += done
        self.failed += failed
        self._first = self._first or (now, self.done)
        self._bar.set_postfix_str(f"{self.failed} failed", refresh=False)
        self._bar.update(done)
        finished = self.done >= self._total
        if self._lines and (finished or now - self._last_line >= SECONDS_BETWEEN_LINES):
            self._last_line = now
            log.info("%s", self._line(now))

    def _line(self, now: float) -> str:
        line = f"{self.done:,}/{self._total:,} images, {self.failed:,} failed"
        # The first shard's time is the actors' start; it says nothing about the speed.
        since, before = self._first or (now, self.done)
        if self.done in (before, self._total) or now - since < SECONDS_BETWEEN_LINES:
            return line
        rate = (self.done - before) / (now - since)
        left = timedelta(seconds=round((self._total - self.done) / rate))
        return f"{line}, {rate:.2f} images/s, {left} left"
