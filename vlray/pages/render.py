"""Render a page as a single HTML file with its styles, scripts and data, which works offline."""

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
    """A number in the header of a page.

    Attributes:
        name: Caption.
        value: The formatted number.
        note: Small print below the number, such as an interval.
    """

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
    image_files: bool = False,
    **values: Any,
) -> bytes:
    """Render a page that runs no script but its own, and fetches nothing from the network.

    The styles are ``pages/page.css``, followed by ``page.css`` of the template's folder.

    Args:
        template: A template that extends ``pages/base.html``, as a path inside the package.
        title: Title of the window. This and all other texts are plain text and are escaped.
        heading: First line of the header.
        subtitle: Second line of the header.
        totals: Numbers in the header.
        scripts: JavaScript files, as paths inside the package; they share one scope.
        data: Data for the scripts, stored as JSON in the element ``data``.
        thumbnails: JPEG files. The first becomes the element with the id ``t0``, the second ``t1``,
            and so on; None leaves its element out.
        image_files: Whether the page may show image files that lie beside it.
        values: Additional template variables.

    Returns:
        The HTML file; equal arguments return equal bytes.

    Raises:
        ValueError: The data contain NaN or an infinity, which JSON does not have.
    """
    style = _text("pages/page.css") + _text(f"{template.rpartition('/')[0]}/page.css")
    script = _join(map(_text, scripts)) if scripts else ""
    # The policy allows only this script and no network access. A label could not run code even if
    # escaping failed. For a page opened from disk, browsers differ in whether 'self' includes the
    # files beside it; `file:` does, and means nothing to a page that a server delivers.
    images = "data: 'self' file:" if image_files else "data:"
    policy = (
        f"default-src 'none'; img-src {images}; style-src '{_hash(style)}'; "
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
    # The filter `tojson` escapes everything that could end a script element or start a comment.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters["number"] = "{:,}".format
    return environment


def _blocks(thumbnails: Iterable[bytes | None]) -> Iterable[bytes]:
    # Appended outside the template, which would hold a page of 65 MB in memory twice.
    for index, thumbnail in enumerate(thumbnails):
        if thumbnail is not None:
            yield b'<script type="text/plain" id="t%d">' % index
            yield base64.b64encode(thumbnail)
            yield b"</script>\n"


def _join(scripts: Iterable[str]) -> str:
    """Join scripts into one function scope, so that they define no globals."""
    return '(() => {\n"use strict";\n' + "\n".join(scripts) + "})();\n"


@cache
def _text(name: str) -> str:
    return resources.files("vlray").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
