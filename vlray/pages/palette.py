"""Colours of labels on the pages."""

from __future__ import annotations

import colorsys

import numpy as np

from vlray.images.draw import label_colour

# Oklab to linear sRGB, through the cube roots of cone responses.
_TO_CONES = np.array(
    [
        [1, 0.3963377774, 0.2158037573],
        [1, -0.1055613458, -0.0638541728],
        [1, -0.0894841775, -1.291485548],
    ]
)
_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.707614701],
    ]
)


def page_color(label: str) -> str:
    """Return the colour of a label as ``#rrggbb``, with the same hue as in the annotated files.

    All colours have a similar lightness, so that dark text on them is readable and they stand out
    from dark images.

    Source:
        Bjorn Ottosson, "A perceptual color space for image processing" (2020), for Oklab.
    """
    hue, _, value = colorsys.rgb_to_hsv(*label_colour(label))
    # Red is at 25 degrees in Oklab; with this offset the other hues match HSV within 20 degrees.
    angle = 2 * np.pi * hue + np.radians(25)
    # label_colour has two levels of brightness (255 and 217), which stay distinguishable here.
    lightness = 0.83 if value > 220 else 0.74
    # Reduce the chroma until the colour is inside the sRGB gamut.
    for chroma in np.arange(0.16, 0, -0.01):
        lab = np.array([lightness, chroma * np.cos(angle), chroma * np.sin(angle)])
        rgb = _TO_RGB @ (_TO_CONES @ lab) ** 3
        if (rgb >= 0).all() and (rgb <= 1).all():
            break
    encoded = np.where(
        rgb <= 0.0031308, 12.92 * rgb, 1.055 * np.maximum(rgb, 0) ** (1 / 2.4) - 0.055
    )
    return f"#{np.rint(encoded.clip(0, 1) * 255).astype(np.uint8).tobytes().hex()}"
