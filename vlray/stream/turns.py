"""What the threads of an actor share: turns of isolated shards, and memory of decoded images."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError

from vlray.cluster.expendable import available

PREFETCH_BYTES = 2 << 30
"""Most bytes of decoded images that a process holds, unless a single shard has more."""
ACROSS_BYTES = 8 << 30
"""The same for a process that detects across shards: 1,280 images of 6 MB."""
MEMORY_PARTS = 16  # a process prefetches into this part of the free memory at most


class Turns:
    """Turns in which several shards are processed at once, or an isolated one alone.

    An image that is tried in a child process is blamed if this process ends meanwhile. Therefore no
    other shard may be in work then.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._isolated = 0  # running or waiting

    @contextlib.contextmanager
    def take(self, *, alone: bool) -> Iterator[None]:
        """Wait for a turn, and keep it during the block."""
        with self._changed:
            if alone:
                self._isolated += 1
                self._changed.wait_for(lambda: not self._running)
            else:
                self._changed.wait_for(lambda: not self._isolated)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._isolated -= alone
                self._changed.notify_all()


class Prefetch:
    """Bytes of the decoded images in this process, of which there is a limit.

    One shard is decoded at a time. It waits while others hold too much; when no other one is left,
    it continues in any case. So a process holds at most the limit or its largest shard, and one
    image for each thread.
    """

    def __init__(
        self,
        limit: int = 0,
        *,
        most: int = PREFETCH_BYTES,
        full: Callable[[], object] = lambda: None,
    ) -> None:
        """Set the limit in bytes.

        Args:
            limit: The limit; 0: ``most``, or less if there is little memory.
            most: Limit where there is enough memory.
            full: Called, without waiting, when decoding has to wait for others to be released.
        """
        free = available() // MEMORY_PARTS
        self._limit = limit or (min(most, free) if free else most)
        self._full = full
        self._changed = threading.Condition()
        self._is_closed = False
        self.held = 0

    def wait(self, own: int) -> None:
        """Wait until a shard that already holds ``own`` bytes may decode another image.

        Raises:
            CancelledError: The run has ended.
        """

        def is_free() -> bool:
            return self._is_closed or not self.is_full or self.held <= own

        with self._changed:
            if not is_free():
                self._full()
            self._changed.wait_for(is_free)
            if self._is_closed:
                raise CancelledError("the run has ended")

    @property
    def is_full(self) -> bool:
        """Whether a shard has to wait, unless all decoded images are its own."""
        return self.held >= self._limit

    def close(self) -> None:
        """End all waiting, and all decoding after the current images."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def add(self, size: int) -> None:
        """Record that an image was decoded."""
        with self._changed:
            self.held += size

    def release(self, size: int) -> None:
        """Record that images are no longer needed."""
        with self._changed:
            self.held -= size
            self._changed.notify_all()
