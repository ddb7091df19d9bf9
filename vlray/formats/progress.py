"""How far a conversion is."""

from __future__ import annotations

import logging
import time

from vlray.runs.progress import Bar

SECONDS_BETWEEN_LINES = 30.0

log = logging.getLogger("vlray.formats")


class Progress(Bar):
    """Counts towards the end of a file; use it in a ``with`` block."""

    def __init__(self, end: int, unit: str) -> None:
        """Begin; ``unit`` is ``B`` for bytes."""
        super().__init__(end, unit, SECONDS_BETWEEN_LINES)
        self._end = max(end, 1)

    def count(self, position: int, images: int, failed: int) -> None:
        """Come to a position of the file, after so many images."""
        self.to(position, f"{images:,} images, {failed:,} failed")
        if self.style == "lines" and self.is_line_due(time.monotonic()):
            share = position / self._end
            log.info("%.1f %%: %s images, %s failed", 100 * share, f"{images:,}", f"{failed:,}")
