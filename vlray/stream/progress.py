"""How far a run is."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from vlray.runs.progress import Bar, Style

SECONDS_BETWEEN_LINES = 10.0

log = logging.getLogger("vlray.stream")


class ExtractProgress(Bar):
    """Counts images; use it in a ``with`` block."""

    def __init__(self, total: int, style: Style) -> None:
        """Begin counting towards ``total`` images."""
        super().__init__(total, " images", SECONDS_BETWEEN_LINES, style)
        self.done = self.failed = 0
        self._total = total
        self._first: tuple[float, int] | None = None

    def add(self, done: int, failed: int) -> None:
        """Count a shard: its images, and how many of them failed."""
        now = time.monotonic()
        self.done += done
        self.failed += failed
        self._first = self._first or (now, self.done)
        self.to(self.done, f"{self.failed} failed")
        is_last = self.done >= self._total
        if self.style == "lines" and self.is_line_due(now, is_last=is_last):
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
