from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vlray.gallery.entries import Entry
from vlray.gallery.page import NONE, page
from vlray.gallery.pictures import PLACEHOLDER_BYTES, Picture, placeholder
from vlray.pages.labels import Names

ABOUT: dict[str, Any] = {
    "dataset": "d",
    "detector": "made-up",
    "date": "",
    "min_boxes": 1,
    "totals": {"images": 1, "regions": 2, "labels": 2, "few": 0, "failures": 0},
    "parts": [["index.html", 1, 1]],
    "part": 0,
    "annotated": "annotated",
    "thumbnails": "",
    "settings": [],
    "failures": [],
}


class Elements(HTMLParser):
    """Collect scripts, styles and meta elements, as a browser would cut them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), ""))

    def handle_data(self, data):
        if self.found:
            tag, attrs, text = self.found[-1]
            self.found[-1] = (tag, attrs, text + data)

    def scripts(self):
        return [(attrs, text) for tag, attrs, text in self.found if tag == "script"]

    def data(self):
        return next(json.loads(text) for attrs, text in self.scripts() if attrs.get("id") == "data")


def entry(image_id: str = "1", path: str = "1.jpg", **columns) -> Entry:
    given = {
        "boxes": np.array([[0, 0, 640, 480], [10.25, 20.5, 30, 40]], np.float32),
        "obj_ids": np.array([1, 0], np.int32),
        "obj_probs": np.array([0.97, 0.2962], np.float32),
        "attr_ids": np.array([0, 0], np.int32),
        "attr_probs": np.array([0.5, 0.01], np.float32),
    }
    return Entry(image_id, path, "", 480, 640, **given | columns)


COLOURS = bytes(range(PLACEHOLDER_BYTES))


def render(entries, pictures=None, **about) -> str:
    pictures = pictures or [Picture(COLOURS, b"jpeg")] * len(entries)
    names = Names(("cat", "dog"), ("old",))
    files = [f"{index}.jpg" for index in range(len(entries))]
    return page(entries, names, files, pictures, ABOUT | about).decode()


def arrays(data: dict[str, Any]) -> dict[str, np.ndarray]:
    """Read the regions as the page's script does."""
    total = sum(image[5] for image in data["images"])
    values = np.frombuffer(base64.b64decode(data["regions"]), "<u2")
    cut = np.split(values, np.array([4, 5, 6, 7]) * total)
    return dict(zip(("box", "label", "score", "attr", "attr_score"), cut, strict=True))


def test_the_page_holds_every_region_to_the_pixel():
    data = Elements(render([entry("1"), entry("2")])).data()
    regions = arrays(data)
    boxes = regions["box"].reshape(-1, 4) * np.array([640, 480] * 2) / 0xFFFF
    np.testing.assert_allclose(boxes[:2], [[0, 0, 640, 480], [10.25, 20.5, 30, 40]], atol=0.01)
    np.testing.assert_array_equal(boxes[:2], boxes[2:])
    assert [data["labels"][label] for label in regions["label"]] == ["dog", "cat"] * 2
    assert regions["score"].tolist() == [9700, 2962] * 2


def test_attributes_that_are_hardly_there_are_left_out():
    regions = arrays(Elements(render([entry()])).data())
    assert regions["attr"].tolist() == [0, NONE]


def test_labels_are_numbered_by_frequency():
    entries = [entry(obj_ids=np.array([1, 1], np.int32)), entry()]
    data = Elements(render(entries)).data()
    assert data["labels"] == ["dog", "cat"]


def test_ids_beyond_the_names_still_have_one():
    data = Elements(render([entry(obj_ids=np.array([7, 0], np.int32))])).data()
    assert set(data["labels"]) == {"cat", "class 7"}


def test_regions_without_labels_pass_every_threshold():
    none, nothing = np.empty(0, np.int32), np.empty(0, np.float32)
    heads = {"obj_ids": none, "obj_probs": nothing, "attr_ids": none, "attr_probs": nothing}
    data = Elements(render([entry(**heads)])).data()
    regions = arrays(data)
    assert data["labels"] == []
    assert regions["label"].tolist() == [NONE, NONE]
    assert regions["score"].min() >= 10_000


@given(
    st.text(st.characters(codec="utf-8"), max_size=40)
    | st.sampled_from(["</script>", "<!--<script>"])
)
def test_no_text_gets_out_of_its_place(text):
    found = Elements(render([entry(text, text)], dataset=text, failures=[[text] * 6]))
    plain = Elements(render([entry()]))
    assert [tag for tag, *_ in found.found] == [tag for tag, *_ in plain.found]
    data = found.data()
    assert data["images"][0][:2] == [text, text]
    assert data["failures"] == [[text] * 6]


def test_only_the_pages_own_script_and_style_are_allowed():
    text = render([entry()])
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)[1]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    for name, content in (("script-src", script), ("style-src", style)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"https?://(?!www\.w3\.org)", text)


def test_thumbnails_come_after_the_script_and_unreadable_ones_are_left_out():
    unreadable = Picture(bytes(PLACEHOLDER_BYTES), problem="gone")
    text = render([entry("1"), entry("2")], [Picture(COLOURS, b"first"), unreadable])
    assert text.index('id="t0"') > text.index('"use strict"')
    assert base64.b64encode(b"first").decode() in text
    assert 'id="t1"' not in text
    data = Elements(text).data()
    assert [image[6] for image in data["images"]] == ["0.jpg", ""]
    assert base64.b64decode(data["placeholders"]) == COLOURS + bytes(PLACEHOLDER_BYTES)


def test_only_pages_with_thumbnails_in_files_may_read_them():
    assert "img-src data:;" in html.unescape(render([entry()]))
    text = html.unescape(render([entry()], thumbnails="thumbnails"))
    assert "img-src data: 'self' file:;" in text


def test_a_placeholder_has_the_colours_of_its_image():
    image = np.zeros((320, 160, 3), np.uint8)
    image[:160] = (10, 20, 30)  # BGR
    grid = np.frombuffer(placeholder(image), np.uint8).reshape(8, 8, 3)
    assert (grid[:4] == (30, 20, 10)).all()
    assert not grid[4:].any()
