"""Recognize the type of floating-point vectors that a file stores as plain bytes.

A file that stores bytes without their type is read as float32 by every published reader. Half and
double precision would then give vectors of half or twice the length, full of meaningless values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

FloatType = Literal["<f2", "<f4", "<f8"]

SAMPLE_BYTES = 1 << 18
"""Number of bytes that are looked at: more would not change the result."""

_MIN_VALUES = 32  # fewer may look alike by chance
_MAX_SPREAD = 8.0  # octaves between the quartiles of features
_MAX_DIFFERENCE = 3.0  # octaves between the spreads of two halves


def float_type(blocks: Sequence[bytes]) -> FloatType:
    """Return the type of the values in some blocks of bytes; float32 if in doubt.

    In vectors of a type, values at even and at odd positions are alike. If wider values are read as
    a narrower type, every other value consists of the last bits of a mantissa, which are random or
    zero; narrower values that are read as a wider type spread over many orders of magnitude.

    Args:
        blocks: Little-endian vectors, a block per image.
    """
    data = b"".join(block[: len(block) // 8 * 8] for block in blocks)[:SAMPLE_BYTES]
    halves, singles = np.frombuffer(data, "<f2"), np.frombuffer(data, "<f4")
    if _are_alike(halves):
        return "<f2"
    # Zeros, such as those of ReLU, are alike in any type.
    doubles = np.frombuffer(data, "<f8")
    if not _are_alike(singles) and _are_plausible(doubles):
        return "<f8"
    return "<f4"


def _are_alike(values: np.ndarray) -> bool:
    """Return whether values are plausible, and those at even and odd positions look the same."""
    even, odd = values[::2], values[1::2]
    if not (_are_plausible(even) and _are_plausible(odd)):
        return False
    sides = [(side > 0).mean() - (side < 0).mean() for side in (even, odd)]
    present = [(side != 0).mean() for side in (even, odd)]
    return bool(
        abs(_spread(even) - _spread(odd)) < _MAX_DIFFERENCE
        and abs(sides[0] - sides[1]) < 0.5
        and abs(present[0] - present[1]) < 0.5
    )


def _are_plausible(values: np.ndarray) -> bool:
    if not np.isfinite(values).all() or np.count_nonzero(values) < _MIN_VALUES:
        return False
    return _spread(values) < _MAX_SPREAD


def _spread(values: np.ndarray) -> float:
    """Return the distance between the quartiles of the magnitudes, in octaves; zeros excluded."""
    octaves = np.log2(np.abs(values[values != 0].astype(np.float64)))
    low, high = np.percentile(octaves, [25, 75])
    return float(high - low)
