"""The page of a comparison in a real browser, opened from disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.fixtures.browser import hover
from vlray.comparison import compare
from vlray.regions.batch import RegionBatch

BAD_ID = "</script><img src=x onerror=alert(1)>"
OBJECTS = ("carrot", "orange", "plate", "<b>&\"'")
ATTRIBUTES = ("orange", "white")


def batch(*images: list[tuple[float, ...]]) -> RegionBatch:
    """Make regions of images of 400 x 300 pixels: corners, class, score, attribute, its score."""
    rows = np.array([row for image in images for row in image], np.float32).reshape(-1, 8)
    return RegionBatch(
        np.full((len(images), 2), (300, 400), np.int32),
        np.array(list(map(len, images)), np.int32),
        np.ascontiguousarray(rows[:, :4]),
        np.ones((len(rows), 4), np.float32),
        rows[:, 4].astype(np.int32),
        rows[:, 5],
        rows[:, 6].astype(np.int32),
        rows[:, 7],
    )


BIG, SMALL, RIGHT = (10, 10, 190, 280), (40, 40, 100, 100), (210, 10, 390, 280)
SIDE_A = batch(
    [(*BIG, 2, 0.64, 1, 0.05), (*SMALL, 0, 0.97, 0, 0.8), (*RIGHT, 1, 0.5, 1, 0.3)],
    [(*BIG, 3, 0.9, 0, 0.02)],
    [(*BIG, 1, 0.5, 0, 0.5)],
)
SIDE_B = batch(
    [(*BIG, 2, 0.61, 1, 0.05), (42, 40, 100, 100, 1, 0.8, 0, 0.7)],
    [(*BIG, 3, 0.7, 0, 0.02)],
    [(*BIG, 1, 0.5, 0, 0.5)],
)


@pytest.fixture
def page_of(write_output, tmp_path) -> Callable[..., Path]:
    """Compare two sides of three photographs, one of which is not there, and give the page."""

    def make(a: RegionBatch = SIDE_A, b: RegionBatch = SIDE_B, **options: object) -> Path:
        names = {"obj_names": OBJECTS, "attr_names": ATTRIBUTES}
        ids = ["coffee", BAD_ID, "chelsea"]
        sides = [write_output(name, side, ids, **names) for name, side in (("a", a), ("b", b))]
        compare(*sides, report=str(tmp_path / "report"), **options)
        return tmp_path / "report" / "compare.html"

    return make


def ids(page) -> list[str]:
    return page.locator(".pair h2").all_inner_texts()


def test_the_worst_images_come_first_and_perfect_ones_not_at_all(page_of, visit) -> None:
    page = visit(page_of())
    assert ids(page) == ["coffee"]  # by boxes without a partner
    page.get_by_label("Sort by").select_option("scores: largest mean difference")
    assert ids(page) == [BAD_ID, "coffee"]
    assert page.locator("#tab-worst").inner_text() == "Worst images 2"
    assert page.locator("#totals").inner_text().split("\n")[:4] == [
        "images",
        "3",
        "boxes with a partner",
        "88.9 %",
    ]


def test_both_sides_show_the_photograph_and_how_each_box_fared(page_of, visit) -> None:
    page = visit(page_of())
    sides = page.locator(".pair").first.locator(".shot")
    assert sides.count() == 2
    page.wait_for_function(
        "[...document.querySelectorAll('.shot img')].every(image => image.naturalWidth > 0)"
    )
    found = [
        [sides.nth(side).locator(f".box.{state}").count() for state in ("same", "other", "lone")]
        for side in (0, 1)
    ]
    assert found == [[1, 1, 1], [1, 1, 0]]
    facts = page.locator(".facts").first.inner_text()
    for words in ("boxes 3 | 2", "matched 2", "cosine 1", "same class 1", "same attribute 2"):
        assert words in facts


def test_pointing_at_a_box_points_at_its_partner(page_of, visit) -> None:
    page = visit(page_of())
    sides = page.locator(".pair").first.locator(".shot")
    hover(page, sides.first, 70 / 400, 70 / 300)  # inside two boxes: the smaller one answers
    lines = page.locator("#tip").inner_text().split("\n")
    assert [line.strip() for line in lines] == [
        "A",
        "orange carrot .97 (orange .80)",
        "B",
        "orange orange .80 (orange .70)",
        "IoU .967 \u00b7 cosine 1 \u00b7 relative L2 0.0",
    ]
    assert sides.nth(1).locator(".box.marked").count() == 1
    hover(page, sides.first, 0.75, 0.5)
    assert "no partner" in page.locator("#tip").inner_text()
    assert sides.nth(1).locator(".box.marked").count() == 0
    hover(page, sides.first, 0.5, 0.99)
    assert page.locator("#tip").is_hidden()


def test_the_list_of_boxes_begins_with_what_is_wrong(page_of, visit) -> None:
    page = visit(page_of())
    details = page.locator(".pair details").first
    details.locator("summary").click()
    assert details.locator("summary").inner_text() == "2 pairs and 1 without a partner"
    rows = details.locator("tbody tr")
    texts = [row.locator("td").all_inner_texts()[:3] for row in rows.all()]
    assert texts == [
        ["white orange .50", "", ""],
        ["orange carrot .97", "orange orange .80", ".967"],
        ["plate .64", "plate .61", "1.000"],
    ]
    rows.nth(1).hover()
    assert page.locator(".pair").first.locator(".box.marked").count() == 2


def test_kinds_of_boxes_can_be_hidden(page_of, visit) -> None:
    page = visit(page_of())
    first = page.locator(".pair .shot").first
    page.get_by_role("button", name="partner", exact=True).click()
    assert first.locator(".box.same").is_hidden()
    assert first.locator(".box.lone").is_visible()
    hover(page, first, 20 / 400, 20 / 300)
    assert page.locator("#tip").is_hidden()


def test_metrics_provenance_and_missing_images_have_tabs(page_of, visit) -> None:
    page = visit(page_of())
    page.get_by_role("tab", name="Metrics").click()
    assert page.locator("#metrics tbody tr").first.locator("td").first.inner_text() == "IoU"
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("cell", name="photographs").count() == 2
    page.keyboard.press("ArrowRight")
    assert page.get_by_text("Both sides have the same images.").is_visible()


def test_an_image_that_is_gone_has_a_placeholder(page_of, visit) -> None:
    page = visit(page_of())
    page.get_by_label("Sort by").select_option("scores: largest mean difference")
    assert page.locator(".missing-note").all_inner_texts() == ["image cannot be read"] * 2


def test_of_equal_sides_the_page_says_so(page_of, visit) -> None:
    page = visit(page_of(SIDE_A, SIDE_A))
    assert page.get_by_text("No image differs.").is_visible()
    assert page.get_by_label("Sort by").is_hidden()


def test_sides_are_called_by_what_tells_them_apart(page_of, write_output, visit, tmp_path) -> None:
    page = visit(page_of())
    assert page.locator(".pair").first.locator("figcaption").all_inner_texts() == [
        "Aa (lite)",
        "Bb (lite)",
    ]
    names = {"obj_names": OBJECTS, "attr_names": ATTRIBUTES}
    same = write_output("other/a", SIDE_B, ["coffee", BAD_ID, "chelsea"], **names)
    compare(str(tmp_path / "a"), same, report=str(tmp_path / "report"))
    page = visit(tmp_path / "report" / "compare.html")
    assert f"B: {tmp_path}/other/a (lite)" in page.locator("#subtitle").inner_text()


def test_sides_without_labels_or_features_show_plain_boxes(page_of, visit) -> None:
    plain = {"obj_ids": None, "obj_probs": None, "attr_ids": None, "attr_probs": None}
    a, b = (
        replace(side, visual_feats=side.visual_feats[:, :0], **plain) for side in (SIDE_A, SIDE_B)
    )
    page = visit(page_of(a, b))
    hover(page, page.locator(".shot").first, 70 / 400, 70 / 300)
    assert page.locator("#tip").inner_text().split("\n")[-1] == "IoU .967"


@pytest.mark.parametrize(("width", "scheme"), [(1360, "light"), (400, "dark")])
def test_the_page_fits_any_screen(page_of, visit, width, scheme) -> None:
    page = visit(page_of(), width=width, scheme=scheme)
    page.locator("summary").first.click()
    for name in ("worst", "metrics", "provenance", "missing"):
        page.locator(f"#tab-{name}").click()
        assert page.evaluate("document.documentElement.scrollWidth") == width
