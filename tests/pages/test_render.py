"""The frame of every page: what is shown or embedded stays text, and nothing is fetched."""

from __future__ import annotations

import json
import re

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlray.pages.render import Total, render_page

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "</title>",
    '"><b>',
    "${js}{{ 1 }}",
)
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40) | st.sampled_from(HOSTILE)


def page(text: str, **options: object) -> str:
    header = {"title": text, "heading": text, "subtitle": text, "totals": [Total(text, text, text)]}
    known = {"images": 1, "orders": [], "classes": True, "differing": 0, "absent_count": 1}
    tables = {"notes": [text], "columns": [text], "rows": [(text, text)], "counts": [(text, text)]}
    rest = {"provenance": [(text, text, "")], "absent": [(text, "A", text)]}
    scripts = ["pages/js/elements.js"]
    data = {"data": text}
    arguments = header | known | tables | rest | data | {"scripts": scripts} | options
    return render_page("comparison/page.html", **arguments).decode()


def tags(text: str) -> list[str]:
    return re.findall(r"<[/!a-z][a-z0-9]*", text)


@given(TEXT)
def test_no_text_becomes_markup(text: str) -> None:
    assert tags(page(text)) == tags(page("plain"))


@given(TEXT)
def test_embedded_data_come_back_as_they_were(text: str) -> None:
    embedded = re.search(r'id="data">(.*?)</script>', page("plain", data=[text]), re.DOTALL)
    assert embedded is not None
    assert not set("<>&") & set(embedded[1])
    assert json.loads(embedded[1]) == [text]


def test_equal_arguments_make_equal_bytes() -> None:
    data = {"b": 1, "a": [0.1, None]}
    assert page("x", data=data) == page("x", data=data)
    assert '{"b":1,"a":[0.1,null]}' in page("x", data=data)  # in the order given


def test_numbers_that_json_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        page("x", data=float("nan"))


def test_a_value_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="steps"):
        render_page("pipelines/page.html", title="", heading="", subtitle="", totals=[])


def test_a_page_without_scripts_has_none() -> None:
    bare = render_page(
        "pipelines/page.html", title="", heading="", subtitle="", totals=[], steps=[]
    )
    assert b"<script" not in bare
    assert b"noscript" not in bare
