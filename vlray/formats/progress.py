"""How far a conversion is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30.0

log = logging.getLogger("vlray.formats")


class Progress:
    """Counts towards the end of a file; use it in a ``with`` block."""

    def __init__(self, end: int, unit: str) -> None:
        """Begin; ``unit`` is ``B`` for bytes."""
        self._end = max(end, 1)
        self._last_line = time.monotonic()
        self._bar = tqdm(
            total=end,
            unit=unit,
            unit_scale=unit == "B",
            disable=not sys.stderr.isatty(),
            smoothing=0.1,
        )

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

    def skip(self, position: int) -> None:
        """Go to where an earlier run had come."""
        self._bar.initial = position
        self._bar.n = position
        self._bar.refresh()

    def to(self, position: int, images: int, failed: int) -> None:
        """Come to a position of the file, after so many images."""
        self._bar.set_postfix_str(f"{images:,} images, {failed:,} failed", refresh=False)
        self._bar.update(position - self._bar.n)
        now = time.monotonic()
        if self._bar.disable and now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            share = position / self._end
            log.info("%.1f %%: %s images, %s failed", 100 * share, f"{images:,}", f"{failed:,}")
