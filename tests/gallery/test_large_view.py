"""The large view of one image, and the keyboard, in a real browser."""

from __future__ import annotations

import pytest

from tests.fixtures.browser import hover
from tests.gallery.photos import Photo
from vlray.gallery import build

sync_api = pytest.importorskip("playwright.sync_api", reason="it drives the browser")


def test_the_large_view_links_boxes_and_rows(make_output, visit):
    page = visit(build(make_output(), min_score=0).path)
    page.locator(".card").first.click()
    rows = page.locator("#region-list .region")
    assert rows.all_inner_texts() == ["orange carrot\n.97", "plate\n.64", "orange orange\n.12"]
    rows.nth(1).hover()
    assert page.locator("#stage .chip.marked").inner_text() == "plate .64"
    hover(page, page.locator("#stage .frame"), 15 / 80, 15 / 60)
    assert page.locator(".region.marked").inner_text() == "orange orange\n.12"
    assert "box 30, 5, 75, 55" in rows.nth(1).get_attribute("title")
    assert rows.first.locator(".attribute").get_attribute("title") == "attribute .80"
    with page.expect_popup() as popup:
        page.get_by_role("link", name="Annotated file").click()
    assert popup.value.url.endswith("/annotated/84002.jpg")


def test_keys_move_between_images_and_regions(make_output, visit):
    page = visit(build(make_output()).path)
    page.locator(".card").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    name = page.locator("#large-id")
    assert name.inner_text() == "a/b c"
    page.keyboard.press("ArrowLeft")
    assert name.inner_text() == "84002"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator(".region.marked").inner_text() == "plate\n.64"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert name.inner_text() == "</script><img src=x onerror=alert(1)>"
    page.keyboard.press("Escape")
    sync_api.expect(page.locator(".card").nth(2)).to_be_focused()
    assert page.locator("#large").is_hidden()
    page.keyboard.press("/")
    sync_api.expect(page.locator("#query")).to_be_focused()


def test_the_keyboard_alone_finds_and_opens_an_image(make_output, visit):
    page = visit(build(make_output()).path)
    page.keyboard.press("ArrowRight")
    sync_api.expect(page.locator(".card").first).to_be_focused()
    page.keyboard.press("/")
    page.keyboard.type("b c")
    sync_api.expect(page.locator(".card")).to_have_count(1)
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert page.locator("#large-id").inner_text() == "a/b c"
    assert page.locator("#large .keys kbd").last.is_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.press("Escape")  # empties the field
    sync_api.expect(page.locator(".card")).to_have_count(5)
    page.keyboard.press("Escape")
    sync_api.expect(page.locator(".card").first).to_be_focused()


def test_labels_in_the_large_view_do_not_cover_each_other(make_output, visit):
    boxes = [(10, 10, 70, 50, 2, 0.9 - k / 100, 0, 0) for k in range(4)]
    page = visit(build(make_output(photos=[Photo("same", "same.png", boxes)])).path)
    page.locator(".card").click()
    chips = page.locator("#stage .chip:visible")
    areas = [chip.bounding_box() for chip in chips.all()]
    assert len(areas) == 4
    frame = page.locator("#stage .frame").bounding_box()
    for k, one in enumerate(areas):
        assert frame["x"] - 1 <= one["x"] <= frame["x"] + frame["width"] - one["width"] + 1
        for other in areas[:k]:
            aside = abs(one["x"] - other["x"]) >= one["width"] - 1
            assert aside or abs(one["y"] - other["y"]) >= one["height"] - 1


def test_an_address_opens_its_image(make_output, visit):
    page = visit(build(make_output()).path, fragment="#image=a%2Fb%20c")
    sync_api.expect(page.locator("#large-id")).to_have_text("a/b c")


def test_boxes_and_labels_can_be_switched(make_output, visit):
    page = visit(build(make_output()).path)
    page.keyboard.press("b")
    assert page.locator(".card svg").first.is_hidden()
    page.get_by_role("button", name="Boxes").click()
    assert page.locator(".card svg").first.is_visible()
    page.locator(".card").first.click()
    assert page.locator("#stage .chip").all_inner_texts() == ["plate .64", "orange carrot .97"]
    page.get_by_role("button", name="Labels", exact=True).click()
    assert page.locator("#stage .chip").first.is_hidden()
    page.keyboard.press("l")
    assert page.locator("#stage .chip").first.is_visible()
