"""The page in a real browser, opened from disk: nothing may be fetched, nothing may go wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.browser import hover
from tests.gallery.photos import FAILED, Photo
from vlray.gallery import build, run
from vlray.gallery.entries import Entry
from vlray.gallery.page import page
from vlray.gallery.pictures import PLACEHOLDER_BYTES, Picture
from vlray.pages.labels import Names

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


def test_thumbnails_of_many_images_are_files_beside_the_page(make_output, visit, monkeypatch):
    monkeypatch.setattr(run, "EMBEDDED_IMAGES", 2)
    result = build(make_output())
    page = visit(result.path)
    page.wait_for_function(
        "() => [...document.querySelectorAll('.card img')].filter(i => i.naturalWidth).length === 4"
    )
    assert page.locator(".missing-note").count() == 1
    files = sorted(path.name for path in (Path(result.path).parent / "thumbnails").iterdir())
    assert len(files) == 4
    assert files[0] == "84002.jpg"
    assert page.locator("#t0").count() == 0


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


def many(count: int) -> bytes:
    """A page of made-up images: 36 regions each, as real ones have."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 300, (36, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 150, (36, 2))], axis=1)
    entries = [
        Entry(
            f"{index:06d}",
            f"{index:06d}.jpg",
            "",
            480,
            640,
            boxes.astype(np.float32),
            rng.integers(0, 1600, 36).astype(np.int32),
            np.sort(rng.uniform(0, 1, 36).astype(np.float32))[::-1],
            rng.integers(0, 400, 36).astype(np.int32),
            rng.uniform(0, 1, 36).astype(np.float32),
        )
        for index in range(count)
    ]
    about = {
        "dataset": "many",
        "detector": "made-up",
        "date": "",
        "min_score": 0.3,
        "min_boxes": 36,
        "totals": {"images": count, "regions": 36 * count, "labels": 9, "few": 0, "failures": 0},
        "parts": [["index.html", 1, count]],
        "part": 0,
        "annotated": "",
        "thumbnails": "thumbnails",
        "settings": [],
        "failures": [],
    }
    names = Names(tuple(f"object {index}" for index in range(1600)), ())
    files = [f"{entry.image_id}.jpg" for entry in entries]
    colours = rng.integers(0, 255, (count, PLACEHOLDER_BYTES), np.uint8)
    return page(entries, names, files, [Picture(one.tobytes()) for one in colours], about)


def _noise(rng: np.random.Generator) -> bytes:
    import io

    sink = io.BytesIO()
    pixels = rng.integers(0, 255, (192, 256, 3), np.uint8)
    Image.fromarray(pixels).save(sink, "JPEG", quality=10)
    assert 5_000 < len(sink.getvalue()) < 15_000
    return sink.getvalue()


@pytest.fixture(scope="module")
def large_page(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("large") / "index.html"
    file.write_bytes(many(10_000))
    assert file.stat().st_size < 15_000_000
    (file.parent / "thumbnails").mkdir()
    thumbnail = _noise(np.random.default_rng(0))
    first = file.parent / "thumbnails" / "000000.jpg"
    first.write_bytes(thumbnail)
    for index in range(1, 10_000):
        first.with_stem(f"{index:06d}").hardlink_to(first)
    return file


def test_ten_thousand_images_open_quickly(large_page, visit):
    page = visit(large_page)
    # From the start of the navigation, by the browser's clock; about 0.5 s on two idle cores.
    first = page.wait_for_function(
        "() => [...document.querySelectorAll('#grid img')].some(image => image.naturalWidth)"
        " && performance.now()",
        polling=20,
    ).json_value()
    assert first < 5_000
    assert page.locator("#count").inner_text() == "10,000 images, 1 to 60 on this page"


def test_only_thumbnails_near_the_window_are_read(large_page, visit):
    page = visit(large_page)
    page.wait_for_function("() => document.querySelector('#grid img').naturalWidth === 256")
    last = page.locator(".card").last
    assert last.locator("img").evaluate("image => image.naturalWidth") == 0
    assert last.locator("canvas").evaluate(
        "canvas => canvas.getContext('2d').getImageData(7, 7, 1, 1).data[3] === 255"
    )


def test_pages_of_thumbnails_are_turned(large_page, visit):
    page = visit(large_page)
    assert page.locator(".card").count() == 60
    page.get_by_role("button", name="Next page").click()
    assert cards(page)[0] == "000060"
    page.keyboard.press("n")
    page.keyboard.press("p")
    page.get_by_role("button", name="Page 167").click()
    assert len(cards(page)) == 40
    assert page.get_by_role("button", name="Next page").is_disabled()
    page.locator(".card").first.click()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#position").inner_text() == "9,960 / 10,000"
    page.keyboard.press("Escape")  # the dialog's close event comes a little later
    sync_api.expect(page.locator(".card .id").last).to_have_text("009959")
    page.locator(".card").last.focus()
    page.keyboard.press("ArrowRight")
    sync_api.expect(page.locator(".card").first).to_be_focused()
    assert cards(page)[0] == "009960"
