"""Pieces of an order of examples: what is left of an epoch, and each worker's part of it.

A stream's workers each go through a stretch of the order, so that they read different files. What
is left of an epoch is then a list of spans, which any number of workers can divide anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int64

Span = tuple[int, int]
"""First position in the order, and the one behind the last."""


def length(spans: Sequence[Span]) -> int:
    """Give the number of positions."""
    return sum(stop - start for start, stop in spans)


def cut(spans: Sequence[Span], low: int, high: int) -> list[Span]:
    """Give the part from position ``low`` to ``high`` of the spans put one behind the other."""
    pieces, before = [], 0
    for start, stop in spans:
        first, last = max(low - before, 0), min(high - before, stop - start)
        if first < last:
            pieces.append((start + first, start + last))
        before += stop - start
    return pieces


def shares(spans: Sequence[Span], world: int) -> list[list[Span]]:
    """Divide spans among workers; the first ones get one more where it does not come out even."""
    each, more = divmod(length(spans), world)
    ends = [rank * each + min(rank, more) for rank in range(world + 1)]
    return [cut(spans, low, high) for low, high in pairwise(ends)]


def after(spans: Sequence[Span], world: int, used: int) -> list[Span]:
    """Give what is left when every worker has used so many positions of its share."""
    left: list[Span] = []
    for share in shares(spans, world):
        for start, stop in cut(share, used, length(share)):
            if left and left[-1][1] == start:
                left[-1] = (left[-1][0], stop)
            else:
                left.append((start, stop))
    return left


def positions(spans: Sequence[Span]) -> Int64[np.ndarray, B]:
    """List the positions."""
    return np.concatenate([np.arange(0), *(np.arange(*span) for span in spans)])
