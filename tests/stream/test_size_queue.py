"""Images of several shards that wait for others of their size."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vlray.stream.size_queue import SizeQueue

# Shares of 134 sizes that give what COCO's photographs give shard by shard: with shards of 32
# images and batches of 8, a mean of 1.6 to 1.9 images in a forward pass.
SHARES = 1 / np.arange(1, 135) ** 1.1


class Pixels:
    def __init__(self, side: int) -> None:
        self.shape = (side, side, 3)


def row(number: int, side: int) -> dict[str, Any]:
    return {"image": Pixels(side), "number": number}


@given(
    sides=st.lists(st.integers(1, 4), max_size=40),
    batch_size=st.integers(1, 5),
    more=st.lists(st.booleans(), min_size=60, max_size=60),
)
def test_every_image_comes_once_beside_others_of_its_size_in_order(
    sides: list[int], batch_size: int, more: list[bool]
) -> None:
    queue, out = SizeQueue(), []
    for number, side in enumerate(sides):
        queue.add([row(number, side)])
        batch = queue.take(batch_size, more=more[number])
        assert len(batch) in ((0, batch_size) if more[number] else range(1, batch_size + 1))
        out += batch
    while batch := queue.take(batch_size, more=False):
        assert len({one["image"].shape for one in batch}) == 1
        assert len(batch) <= batch_size
        out += batch
    assert len(queue) == 0
    assert Counter(one["number"] for one in out) == Counter(range(len(sides)))
    for side in set(sides):
        numbers = [one["number"] for one in out if one["image"].shape[0] == side]
        assert numbers == sorted(numbers)


def test_the_image_that_waits_longest_comes_first() -> None:
    queue = SizeQueue()
    queue.add([row(0, 1), row(1, 2), row(2, 2), row(3, 1)])
    assert queue.take(3, more=True) == []
    assert [one["number"] for one in queue.take(3, more=False)] == [0, 3]
    assert [one["number"] for one in queue.take(2, more=True)] == [1, 2]
    assert queue.take(2, more=False) == []


def mean_images(*, shard: int, in_flight: int, images: int = 12_800) -> float:
    """Return the mean images of a batch of at most 8, with so many images in unfinished shards."""
    generator = np.random.default_rng(0)
    sides = generator.choice(len(SHARES), images, p=SHARES / SHARES.sum()).tolist()
    queue, left, begun, batches = SizeQueue(), Counter[int](), 0, 0
    while True:
        while begun < images and len(left) * shard + shard <= in_flight:
            numbers = range(begun, begun + shard)
            queue.add([row(number, sides[number]) for number in numbers])
            left[begun // shard], begun = shard, begun + shard
        if not (batch := queue.take(8, more=False)):
            return images / batches
        batches += 1
        for one in batch:
            of = one["number"] // shard
            left[of] -= 1
            if not left[of]:
                del left[of]


def test_passes_over_sizes_like_cocos_are_mostly_full() -> None:
    assert mean_images(shard=32, in_flight=32) < 2
    assert mean_images(shard=32, in_flight=1280) >= 6
    assert mean_images(shard=256, in_flight=1280) >= 6
