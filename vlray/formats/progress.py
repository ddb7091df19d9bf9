"""Progress bar for conversions."""

from __future__ import annotations

import logging
import time

from vlray.runs.progress import Bar
from vlray.settings.wording import counted

SECONDS_BETWEEN_LINES = 30.0

log = logging.getLogger("vlray.formats")


class ConversionProgress(Bar):
    """Progress bar or log lines for a conversion; use it in a ``with`` block."""

    def __init__(self, end: int, unit: str) -> None:
        """Start at position 0 of ``end``; ``unit`` is ``B`` if positions are bytes."""
        super().__init__(end, unit, SECONDS_BETWEEN_LINES)
        self._end = max(end, 1)

    def count(self, position: int, images: int, failed: int) -> None:
        """Report the position in the file, and the number of images and failures so far."""
        self.to(position, f"{counted(images, 'image')}, {failed:,} failed")
        if self.style == "lines" and self.is_line_due(time.monotonic()):
            share = position / self._end
            log.info("%.1f %%: %s, %s failed", 100 * share, counted(images, "image"), f"{failed:,}")
