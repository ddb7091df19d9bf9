"""Convert and validate boxes, for the layouts."""

from __future__ import annotations

from collections.abc import Sequence

from vlray.tasks.problems import Problems

Corners = tuple[float, float, float, float]

SLACK = 1.0
"""Pixels by which a box may exceed its image, because files contain rounded values."""


def corners_of(box: Sequence[float]) -> Corners:
    """Convert x, y, width, height to x1, y1, x2, y2, in pixels.

    Raises:
        ValueError: The box is not four numbers.
    """
    x, y, width, height = (float(value) for value in box)
    return x, y, x + width, y + height


def is_box(box: Corners, image_hw: tuple[int, int] | None, where: str, problems: Problems) -> bool:
    """Return whether a box has an area and lies in its image; if not, count a problem.

    Args:
        box: x1, y1, x2, y2 in pixels.
        image_hw: Height and width of the image in pixels; None if unknown.
        where: Where the box is, for messages, such as ``annotation 7 of instances.json``.
        problems: Object in which an invalid box is counted, as ``bad-box``.
    """
    x1, y1, x2, y2 = box
    if not (x2 > x1 and y2 > y1):
        problems.add("bad-box", f"{where} is {list(box)}, without area")
        return False
    # If the size is unknown, only negative coordinates are outside.
    height, width = image_hw or (float("inf"), float("inf"))
    if min(x1, y1) < -SLACK or x2 > width + SLACK or y2 > height + SLACK:
        inside = f"its {width}x{height} image" if image_hw else "its image"
        problems.add("bad-box", f"{where} is {list(box)}, outside {inside}")
        return False
    return True
