"""Draw regions on an image.

Shapes: H, W: image height and width, in pixels; R: regions of the image; S: scores, R or 0.
"""

from __future__ import annotations

import colorsys
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

Rectangle = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are exclusive."""

_SMALLEST_FONT = 10  # pixels; smaller text is illegible
_MOST_HIDDEN = 0.1  # fraction of a text's area that may overlap earlier texts


def draw_regions(
    image_bgr: UInt8[np.ndarray, "H W 3"],
    boxes: Float[np.ndarray, "R 4"],
    labels: Sequence[str] = (),
    scores: Sequence[float] | Float[np.ndarray, " S"] = (),
    attributes: Sequence[str] = (),
) -> Image.Image:
    """Draw boxes with their labels, such as ``orange carrot .97``.

    A label has the same colour in every image. Line width and font size grow with the image. Text
    is drawn in order of decreasing score and kept inside the image. Text that would hide earlier
    text is left out.

    Args:
        image_bgr: Image as returned by ``decode``; it is not changed.
        boxes: ``(x1, y1, x2, y2)`` in pixels of this image, clipped to the image.
        labels: Label of each box. If empty, only boxes are drawn.
        scores: Score of each label, in [0, 1].
        attributes: Attribute to print before each label.

    Raises:
        ValueError: The number of labels, scores or attributes differs from the number of boxes.
    """
    for name, values in (("labels", labels), ("scores", scores), ("attributes", attributes)):
        if len(values) not in (0, len(boxes)):
            raise ValueError(f"{len(values)} {name} for {len(boxes)} boxes; pass one per box")
    image = Image.fromarray(np.ascontiguousarray(image_bgr[:, :, ::-1]))
    draw = ImageDraw.Draw(image)
    corners = [_inside(box, image.size) for box in boxes]
    line = max(round(min(image.size) / 250), 1)
    # Large boxes first, so that the small boxes inside them stay visible.
    for index in sorted(range(len(corners)), key=lambda index: -_area(corners[index])):
        left, top, right, bottom = corners[index]
        colour = label_colour(labels[index] if len(labels) else "")
        draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=line)
    taken: list[Rectangle] = []
    order = np.argsort(-np.asarray(scores), kind="stable") if len(scores) else range(len(boxes))
    for index in order if len(labels) else ():
        words = [attributes[index]] if len(attributes) else []
        words += [labels[index]]
        if len(scores):
            words += [f"{float(scores[index]):.2f}".removeprefix("0")]
        text = " ".join(" ".join(words).split())
        _draw_text(draw, image.size, corners[index], text, label_colour(labels[index]), taken)
    return image


def label_colour(label: str) -> tuple[int, int, int]:
    """Return a saturated RGB colour that depends only on the label."""
    # Unlike hash(), the checksum is the same in every process.
    spread = zlib.crc32(label.encode())
    hue, value = spread % 360 / 360, (1.0, 0.85)[spread // 360 % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.8, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _draw_text(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    box: Rectangle,
    text: str,
    colour: tuple[int, int, int],
    taken: list[Rectangle],
) -> None:
    """Draw text at the box corner where it hides the least earlier text, if little enough."""
    font = ImageFont.load_default(max(min(size) / 38, _SMALLEST_FONT))
    if isinstance(font, ImageFont.FreeTypeFont):
        ascent, descent = font.getmetrics()
        height = ascent + descent
    else:  # a Pillow without FreeType has one font of one size
        height = int(font.getbbox("Ag")[3])
    margin = max(height // 8, 1)
    # Shorten text that is wider than the image.
    while text and font.getlength(text) + 2 * margin > size[0]:
        text = text[:-1]
    width, height = int(np.ceil(font.getlength(text))) + 2 * margin, height
    if not text or height > size[1]:
        return
    spots = [_moved_inside(spot, size) for spot in _spots(box, width, height)]
    hidden, best = min(
        ((sum(_overlap(spot, other) for other in taken), spot) for spot in spots),
        key=lambda pair: pair[0],
    )
    if hidden > _area(best) * _MOST_HIDDEN:
        return
    taken.append(best)
    draw.rectangle((best[0], best[1], best[2] - 1, best[3] - 1), fill=colour)
    red, green, blue = colour
    # BT.601 luma: black text on a bright background, white text on a dark one.
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    draw.text((best[0] + margin, best[1]), text, fill="black" if bright else "white", font=font)


def _spots(box: Rectangle, width: int, height: int) -> list[Rectangle]:
    """List candidate positions for the text, best first.

    Left-aligned: above the box, inside its top edge, below the box, inside its bottom edge. Then
    the same positions right-aligned.
    """
    left, top, right, bottom = box
    starts = [
        *((left, top - height), (left, top), (left, bottom), (left, bottom - height)),
        *((right - width, top - height), (right - width, top), (right - width, bottom)),
        (right - width, bottom - height),
    ]
    return [(x, y, x + width, y + height) for x, y in starts]


def _moved_inside(spot: Rectangle, size: tuple[int, int]) -> Rectangle:
    left = min(max(spot[0], 0), size[0] - (spot[2] - spot[0]))
    top = min(max(spot[1], 0), size[1] - (spot[3] - spot[1]))
    return left, top, left + spot[2] - spot[0], top + spot[3] - spot[1]


def _inside(box: Float[np.ndarray, " 4"], size: tuple[int, int]) -> Rectangle:
    """Round a box outwards to whole pixels, clip it to the image, and keep at least one pixel."""
    x1, y1, x2, y2 = np.nan_to_num(box.astype(np.float64))
    left, top = (int(np.clip(np.floor(v), 0, n - 1)) for v, n in ((x1, size[0]), (y1, size[1])))
    right, bottom = (int(np.clip(np.ceil(v), 0, n)) for v, n in ((x2, size[0]), (y2, size[1])))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _area(box: Rectangle) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _overlap(one: Rectangle, other: Rectangle) -> int:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)
