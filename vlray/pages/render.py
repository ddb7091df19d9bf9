"""Render a page: a single HTML file with everything in it, which opens without a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup


class Total(NamedTuple):
    """One number of a page's header."""

    name: str
    value: str
    note: str = ""


def render_page(
    template: str,
    *,
    title: str,
    heading: str,
    subtitle: str,
    totals: Sequence[Total],
    scripts: Sequence[str] = (),
    data: Any = None,
    thumbnails: Iterable[bytes | None] = (),
    **values: Any,
) -> bytes:
    """Render a page that neither fetches anything nor runs anything but its own script.

    The style is that of all pages, followed by ``page.css`` of the template's folder.

    Args:
        template: A template that extends ``pages/base.html``, as a path inside the package.
        title: Of the window, plain text like all that follows.
        heading: First line of the header.
        subtitle: Second line of the header.
        totals: Numbers of the header.
        scripts: JavaScript files, as paths inside the package; they share one scope.
        data: What the scripts read from the element ``data``.
        thumbnails: JPEGs; number n becomes the element ``tn``, where it is not None.
        values: What else the template shows.

    Returns:
        The file; equal arguments make equal bytes.

    Raises:
        ValueError: The data have a number that JSON lacks.
    """
    style = _text("pages/page.css") + _text(f"{template.rpartition('/')[0]}/page.css")
    script = _join(map(_text, scripts)) if scripts else ""
    # Only this very script may run, and nothing may be fetched: a name that slipped through the
    # escaping could still do no harm.
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    head = (
        _environment()
        .get_template(template)
        .render(
            policy=policy,
            title=title,
            heading=heading,
            subtitle=subtitle,
            totals=totals,
            style=Markup(style),
            script=Markup(script),
            data=data,
            **values,
        )
    )
    return b"".join([head.encode(), *_blocks(thumbnails), b"</body>\n</html>\n"])


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vlray", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # The filter `tojson` escapes whatever could end a script element or begin a comment.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters["number"] = "{:,}".format
    return environment


def _blocks(thumbnails: Iterable[bytes | None]) -> Iterable[bytes]:
    # Not in the template: it would hold a page of 65 MB twice.
    for index, thumbnail in enumerate(thumbnails):
        if thumbnail is not None:
            yield b'<script type="text/plain" id="t%d">' % index
            yield base64.b64encode(thumbnail)
            yield b"</script>\n"


def _join(scripts: Iterable[str]) -> str:
    """Make one script of several, whose names nothing else sees."""
    return '(() => {\n"use strict";\n' + "\n".join(scripts) + "})();\n"


@cache
def _text(name: str) -> str:
    return resources.files("vlray").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
