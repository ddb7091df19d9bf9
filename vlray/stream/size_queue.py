"""Batches of images of one size, from several shards at once.

Images of one forward pass must have the same size, because padding could change their features. In
a single shard, most sizes occur a few times only, so that most passes would have few images.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from vlray.stream.rows import ImageRow


class SizeQueue:
    """Decoded images that wait for others of their size.

    A batch is full, or it has the image that waits longest and all that wait with it. So with more
    images in the queue, batches have more images, and no image waits for ever.
    """

    def __init__(self) -> None:
        self._groups: OrderedDict[tuple[int, ...], deque[tuple[int, ImageRow]]] = OrderedDict()
        self._added = 0
        self._length = 0

    def __len__(self) -> int:
        """Return the number of images that wait."""
        return self._length

    def add(self, rows: Iterable[ImageRow]) -> None:
        """Add images, which have pixels."""
        for row in rows:
            self._groups.setdefault(row["image"].shape, deque()).append((self._added, row))
            self._added += 1
            self._length += 1

    def take(self, batch_size: int, *, more: bool) -> list[ImageRow]:
        """Remove and return the images of the next batch, in the order in which they were added.

        Args:
            batch_size: Largest number of images.
            more: Whether more images will be added before this batch is done, so that an
                incomplete batch should wait.

        Returns:
            The batch; empty if no image waits, or if it is better to wait for more.
        """
        full = [group for group in self._groups.values() if len(group) >= batch_size]
        candidates = full or ([] if more else list(self._groups.values()))
        if not candidates:
            return []
        # Of several batches, the one whose first image waits longest.
        group = min(candidates, key=lambda group: group[0][0])
        batch = [group.popleft()[1] for _ in range(min(batch_size, len(group)))]
        self._length -= len(batch)
        if not group:
            del self._groups[batch[0]["image"].shape]
        return batch
