from __future__ import annotations

import colorsys
import re
from importlib import resources

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


def luminance(text: str) -> float:
    red, green, blue = (
        value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4
        for value in rgb(text)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """As WCAG defines it: 4.5 is asked for text, 3 for the edges of controls."""
    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def test_dark_text_can_be_read_on_every_color():
    assert all(contrast(page_color(label), "#101010") > 4.5 for label in LABELS)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_and_controls_stand_out_from_their_background(scheme):
    style = resources.files("vlray").joinpath("pages/page.css").read_text("utf-8")
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]
    colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", block))
    for background in ("page", "panel", "photo"):
        for text in ("text", "quiet"):
            assert contrast(colors[text], colors[background]) > 4.5
    for background in ("page", "panel", "tint"):
        assert contrast(colors["accent"], colors[background]) > 4.5
    for background in ("page", "panel"):
        assert contrast(colors["edge"], colors[background]) > 3
