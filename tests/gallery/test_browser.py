"""The page in a real browser, opened from disk: nothing may be fetched, nothing may go wrong."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.browser import hover
from tests.gallery.photos import FAILED
from vlray.gallery import build

sync_api = pytest.importorskip("playwright.sync_api", reason="it drives the browser")


def cards(page) -> list[str]:
    return page.locator(".card .id").all_inner_texts()


def test_cards_show_the_images_with_their_best_regions(make_output, visit):
    page = visit(build(make_output()).path)
    assert page.locator("h1").inner_text() == "fruit & <bowls>"
    assert cards(page)[:3] == ["84002", "a/b c", "</script><img src=x onerror=alert(1)>"]
    assert page.locator(".card").first.locator(".best").inner_text() == (
        "orange carrot .97 \u00b7 plate .64"
    )
    assert page.locator(".card").first.locator(".box").count() == 2
    assert page.locator(".card img").count() == 4
    assert page.locator(".missing-note").inner_text() == "image cannot be read"
    page.wait_for_function(
        "() => [...document.querySelectorAll('.card img')].every(image => image.naturalWidth > 0)"
    )


def test_colours_of_an_image_are_there_before_its_thumbnail(make_output, visit):
    page = visit(build(make_output()).path)
    canvas = page.locator(".card").nth(1).locator("canvas")  # one plate, all over the image
    color = canvas.evaluate("c => [...c.getContext('2d').getImageData(4, 4, 1, 1).data]")
    np.testing.assert_allclose(color, [200, 60, 30, 255], atol=10)
    assert page.locator(".missing canvas").count() == 0


def test_hovering_a_box_tells_its_label_and_score(make_output, visit):
    page = visit(build(make_output(), min_score=0).path)
    frame = page.locator(".card .frame").first
    hover(page, frame, 15 / 80, 15 / 60)  # inside two boxes: the smaller one answers
    # The label's score, then how sure the detector is of the attribute.
    assert page.locator("#tip").inner_text().split("\n") == ["orange orange .12", "orange .40"]
    assert frame.locator(".box.marked").count() == 1
    hover(page, frame, 50 / 80, 30 / 60)
    assert page.locator("#tip").inner_text() == "plate .64"
    hover(page, frame, 0.01, 0.01)
    assert page.locator("#tip").is_hidden()


def test_labels_filter_the_cards_and_their_boxes(make_output, visit):
    page = visit(build(make_output(), min_score=0).path)
    assert page.locator(".label-row").all_inner_texts() == [
        "carrot\n2",
        "plate\n2",
        "orange\n1",
        "<b>&\"'\n1",
    ]
    page.get_by_role("checkbox", name="carrot").check()
    assert cards(page) == ["84002", "gone"]
    assert page.locator(".card").first.locator(".box").count() == 1
    page.get_by_role("checkbox", name="<b>&\"'").check()
    assert len(cards(page)) == 3
    page.locator("#chosen").get_by_role("button", name="carrot").click()
    assert len(cards(page)) == 1
    assert not page.get_by_role("checkbox", name="carrot").is_checked()
    page.get_by_placeholder("search labels").fill("PLA")
    assert page.locator(".label-row").all_inner_texts() == ["plate\n2"]
    page.get_by_role("button", name="Clear filters").click()
    assert len(cards(page)) == 5


def test_the_score_hides_boxes_and_recounts_labels(make_output, visit):
    page = visit(build(make_output(), min_score=0).path)
    page.locator("#score").fill("0.6")
    # The page waits for the next frame: dragging would otherwise redraw more often than it shows.
    sync_api.expect(page.locator(".box")).to_have_count(4)
    assert page.locator(".card").first.locator(".box").count() == 2
    assert page.locator(".label-row").all_inner_texts()[0] == "carrot\n2"
    assert page.locator("#tab-labels").inner_text() == "Labels 3"
    page.locator("#score").fill("1")
    sync_api.expect(page.locator(".box")).to_have_count(0)
    assert "no label at this score" in page.locator("#label-more").inner_text()


def test_ids_splits_and_few_regions_filter(make_output, visit):
    page = visit(build(make_output()).path)
    page.get_by_placeholder("id or path").fill("COCO_train")
    page.wait_for_function("() => document.querySelectorAll('.card').length === 1")
    page.get_by_placeholder("id or path").fill("nothing like it")
    page.wait_for_selector("text=No image matches the filters.")
    page.get_by_role("button", name="Clear filters").click()
    page.get_by_label("Split").select_option("train")
    assert cards(page) == ["84002", "a/b c"]
    page.get_by_label("Split").select_option("")
    page.get_by_label("Fewer than 2 regions (3)").check()
    assert len(cards(page)) == 3
    page.get_by_label("Image cannot be read").check()
    assert cards(page) == []


def test_images_are_sorted(make_output, visit):
    page = visit(build(make_output()).path)
    page.get_by_label("Sort by").select_option("fewest")
    assert cards(page)[0].endswith("${js}")
    page.get_by_label("Sort by").select_option("best")
    assert cards(page)[0].startswith("</script>")


def test_failures_have_a_tab_of_their_own(make_output, visit):
    page = visit(build(make_output()).path)
    page.get_by_role("tab", name="Failures 2").click()
    rows = page.locator("#failures tbody tr")
    assert rows.count() == 2
    assert rows.first.locator("td").all_inner_texts() == [
        "bad",
        "not an image: <html>",
        "ImageError",
        "decode",
        "val/bad <i>.jpg",
        "val",
    ]
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("cell", name="made-up").is_visible()


def test_failures_can_be_chosen_by_error_and_copied(make_output, visit):
    failed = [
        *FAILED,
        ("third", "val/third.jpg", "val", "decode", "ImageError", "two\tlines\nof it"),
    ]
    page = visit(build(make_output(failed=failed)).path)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("tab", name="Failures 3").click()
    page.get_by_role("button", name="ImageError 2").click()
    assert page.locator("#failures tbody tr").count() == 2
    page.get_by_role("button", name="Copy list").click()
    sync_api.expect(page.locator("#copied")).to_have_text("2 lines copied")
    lines = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert [line.split("\t")[-1] for line in lines] == [
        "Reason",
        "not an image: <html>",
        "two lines of it",
    ]
    page.get_by_role("button", name="ImageError 2").click()
    page.get_by_role("button", name="Copy paths").click()
    sync_api.expect(page.locator("#copied")).to_have_text("3 lines copied")
    paths = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert paths == ["val/bad <i>.jpg", "train/worse.jpg", "val/third.jpg"]


def test_the_labels_tab_leads_to_the_images_of_a_label(make_output, visit):
    page = visit(build(make_output(), min_score=0).path)
    page.get_by_role("tab", name="Labels").click()
    assert page.locator("#labels tbody tr").first.locator("td").all_inner_texts() == [
        "carrot",
        "",
        "3",
        "2",
        ".69",
    ]
    page.get_by_role("button", name="carrot").click()
    assert cards(page) == ["84002", "gone"]


def test_an_output_without_labels_shows_plain_boxes(make_output, visit):
    page = visit(build(make_output(labels=False)).path)
    assert page.locator(".card").first.locator(".box").count() == 3
    assert page.locator("#label-field").is_hidden()
    assert page.locator("#tab-labels").is_hidden()
    hover(page, page.locator(".card .frame").first, 0.6, 0.5)
    assert page.locator("#tip").inner_text() == "region"


def test_labels_without_scores_are_shown_alone(make_output, visit):
    page = visit(build(make_output(scores=False)).path)
    hover(page, page.locator(".card .frame").first, 0.6, 0.5)
    assert page.locator("#tip").inner_text() == "plate"
    page.get_by_role("tab", name="Labels").click()
    row = page.locator("#labels tbody tr").first.locator("td")
    assert row.all_inner_texts() == ["carrot", "", "3", "2", ""]
    page.get_by_role("tab", name="Images").click()
    page.locator(".card .frame").first.click()
    assert page.locator(".region").all_inner_texts() == ["plate", "carrot", "orange"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1360, 400])
def test_the_page_fits_any_screen(make_output, visit, tmp_path, width, scheme):
    page = visit(build(make_output()).path, width=width, scheme=scheme)
    page.wait_for_timeout(100)
    for name in ("images", "labels", "failures", "about"):
        page.locator(f"#tab-{name}").click()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.screenshot(path=tmp_path / f"{name}.png")
    page.locator("#tab-images").click()
    page.locator(".card").first.click()
    page.evaluate("document.getElementById('position').textContent = '10,000 / 10,000'")
    next_image = page.locator("#next").bounding_box()
    assert next_image["x"] + next_image["width"] <= width
    with Image.open(tmp_path / "images.png") as shot:
        corner = shot.convert("L").getpixel((2, 2))
        assert len(shot.convert("RGB").getcolors(1 << 24)) > 50
    assert (corner > 200) == (scheme == "light")
