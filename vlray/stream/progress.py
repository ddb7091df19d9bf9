"""Progress display of an extraction."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

from vlray.runs.progress import Bar, Style
from vlray.settings.wording import counted

SECONDS_BETWEEN_LINES = 10.0
# tqdm's own format turns a speed below 1 image/s into seconds per image.
BAR = (
    "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} images"
    " [{rate_noinv_fmt}, {remaining} left{postfix}]"
)
POLL_S = 0.5  # between two looks inside the shards

log = logging.getLogger("vlray.stream")


class ExtractProgress(Bar):
    """Progress display that counts images. Use it in a ``with`` block."""

    def __init__(self, total: int, style: Style) -> None:
        """Start the display of ``total`` images."""
        super().__init__(total, " images", SECONDS_BETWEEN_LINES, style, form=BAR)
        self.done = self.failed = 0  # of complete shards
        self._shown = 0
        self._total = total
        self._first: tuple[float, int] | None = None
        self._lock = threading.Lock()

    def add(self, done: int, failed: int) -> None:
        """Add the number of processed images in a shard, and how many of them failed."""
        with self._lock:
            self.done += done
            self.failed += failed
            self._show(self.done)

    @contextlib.contextmanager
    def inside(self, images: Callable[[], int]) -> Iterator[None]:
        """Also show images of unfinished shards while the block runs.

        Args:
            images: Returns how many images are done since the block began.
        """
        if self.style == "none":
            yield
            return
        ended, before = threading.Event(), self.done

        def look() -> None:
            # The display is not worth an error: a lost cluster ends the run in the main thread.
            with contextlib.suppress(Exception):
                while not ended.wait(POLL_S):
                    position = before + images()
                    with self._lock:
                        # All but the last, because a shard is done when it is written.
                        if not ended.is_set() and self._shown < position < self._total:
                            self._show(position)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()  # the thread may wait for a cluster that is lost

    def _show(self, position: int) -> None:
        """Show a position; the caller holds the lock."""
        now = time.monotonic()
        self._shown = position = max(position, self._shown)
        self._first = self._first or (now, position)
        self.to(position, f"{self.failed} failed")
        is_last = position >= self._total
        if self.style == "lines" and self.is_line_due(now, is_last=is_last):
            log.info("%s", self._line(now))

    def _line(self, now: float) -> str:
        line = f"{self._shown:,}/{counted(self._total, 'image')}, {self.failed:,} failed"
        # Exclude the first images from the speed: their time is mostly the start of the actors.
        since, before = self._first or (now, self._shown)
        if self._shown in (before, self._total) or now - since < SECONDS_BETWEEN_LINES:
            return line
        rate = (self._shown - before) / (now - since)
        left = timedelta(seconds=round((self._total - self._shown) / rate))
        return f"{line}, {rate:.2f} images/s, {left} left"
