"""Assemble a page: a single HTML file with everything in it, which opens without a network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from string import Template
from typing import Any


def assemble(
    template: str,
    *,
    title: str,
    style: str,
    script: str,
    data: dict[str, Any],
    thumbnails: Sequence[bytes | None],
) -> bytes:
    """Put a page together that neither fetches anything nor runs anything but its own script.

    Args:
        template: HTML up to the script, with ``$policy``, ``$title``, ``$css``, ``$data``, ``$js``.
        title: Plain text.
        style: CSS.
        script: JavaScript; ``join_scripts`` makes one of several.
        data: What the script reads from the element ``data``.
        thumbnails: JPEGs; number n becomes the element ``tn``, where it is not None.
    """
    # Only this very script may run, and nothing may be fetched: a name that slipped through the
    # escaping could still do no harm.
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    head = Template(template).substitute(
        policy=html.escape(policy),
        title=html.escape(title),
        css=style,
        data=_json(data),
        js=script,
    )
    return b"".join([head.encode(), *_blocks(thumbnails), b"</body>\n</html>\n"])


def _blocks(thumbnails: Iterable[bytes | None]) -> Iterable[bytes]:
    for index, thumbnail in enumerate(thumbnails):
        if thumbnail is not None:
            yield b'<script type="text/plain" id="t%d">' % index
            yield base64.b64encode(thumbnail)
            yield b"</script>\n"


def _json(data: Any) -> str:
    """Encode for a script element: no text inside can end it or begin a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def join_scripts(parts: Iterable[str]) -> str:
    """Make one script of several, whose names nothing else sees."""
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "})();\n"


@cache
def page_text(name: str, package: str = "vlray.pages") -> str:
    """Read a file that lies beside the code."""
    return resources.files(package).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
