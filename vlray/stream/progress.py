"""Progress display of an extraction."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from vlray.runs.progress import Bar, Style
from vlray.settings.wording import counted

SECONDS_BETWEEN_LINES = 10.0

log = logging.getLogger("vlray.stream")


class ExtractProgress(Bar):
    """Progress display that counts images. Use it in a ``with`` block."""

    def __init__(self, total: int, style: Style) -> None:
        """Start the display of ``total`` images."""
        super().__init__(total, " images", SECONDS_BETWEEN_LINES, style)
        self.done = self.failed = 0
        self._total = total
        self._first: tuple[float, int] | None = None

    def add(self, done: int, failed: int) -> None:
        """Add the number of processed images in a shard, and how many of them failed."""
        now = time.monotonic()
        self.done += done
        self.failed += failed
        self._first = self._first or (now, self.done)
        self.to(self.done, f"{self.failed} failed")
        is_last = self.done >= self._total
        if self.style == "lines" and self.is_line_due(now, is_last=is_last):
            log.info("%s", self._line(now))

    def _line(self, now: float) -> str:
        line = f"{self.done:,}/{counted(self._total, 'image')}, {self.failed:,} failed"
        # Exclude the first shard from the speed: its time is mostly the start of the actors.
        since, before = self._first or (now, self.done)
        if self.done in (before, self._total) or now - since < SECONDS_BETWEEN_LINES:
            return line
        rate = (self.done - before) / (now - since)
        left = timedelta(seconds=round((self._total - self.done) / rate))
        return f"{line}, {rate:.2f} images/s, {left} left"
