from __future__ import annotations

import colorsys

import pytest

from vlray.images.draw import label_colour
from vlray.pages.palette import page_color

LABELS = [f"label {index}" for index in range(200)]


def rgb(text: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(text.removeprefix("#")))


def test_a_label_always_has_the_same_color():
    assert page_color("cat") == page_color("cat") != page_color("dog")


@pytest.mark.parametrize("label", LABELS[:40])
def test_the_hue_is_the_one_of_annotated_files(label):
    here = colorsys.rgb_to_hsv(*rgb(page_color(label)))[0]
    there = colorsys.rgb_to_hsv(*label_colour(label))[0]
    assert min(abs(here - there), 1 - abs(here - there)) < 40 / 360


def test_dark_text_can_be_read_on_every_color():
    for label in LABELS:
        red, green, blue = (
            value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4
            for value in rgb(page_color(label))
        )
        luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        # Contrast against #101010, as WCAG defines it; 4.5 is asked for.
        assert (luminance + 0.05) / (0.0052 + 0.05) > 4.5
