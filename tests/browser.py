"""A real browser for the tests of pages: nothing may be fetched, nothing may go wrong.

A folder's conftest.py imports ``browser`` and ``visit`` to have them as fixtures.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["browser", "hover", "visit"]

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="it drives the browser")
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGS))
        yield chromium
        chromium.close()


class Visit:
    """One visit to a page; keeps what the browser complains about and what it fetches."""

    def __init__(self, browser, width: int, scheme: str) -> None:
        viewport = {"width": width, "height": 860}
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: self.problems.append(dialog.message))
        self.page.on("request", self._note)

    def _note(self, request) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.problems.append(request.url)

    def open(self, path, fragment: str = ""):
        self.page.goto(Path(path).as_uri() + fragment)
        return self.page


@pytest.fixture
def visit(browser) -> Iterator[object]:
    visits: list[Visit] = []

    def start(path, width: int = 1360, scheme: str = "light", fragment: str = ""):
        visits.append(Visit(browser, width, scheme))
        return visits[-1].open(path, fragment)

    yield start
    for one in visits:
        one.context.close()
        assert one.problems == []


def hover(page, frame, x: float, y: float) -> None:
    """Move the mouse to a place of a picture, given as shares of its width and height."""
    area = frame.bounding_box()
    page.mouse.move(area["x"] + x * area["width"], area["y"] + y * area["height"])
