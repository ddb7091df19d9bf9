"""Pages of many images in a real browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlray.gallery import build, run
from vlray.gallery.entries import Entry
from vlray.gallery.page import page
from vlray.gallery.pictures import PLACEHOLDER_BYTES, Picture
from vlray.pages.labels import Names

sync_api = pytest.importorskip("playwright.sync_api", reason="it drives the browser")


def cards(page) -> list[str]:
    return page.locator(".card .id").all_inner_texts()


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
