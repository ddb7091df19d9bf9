"""The page of a test in a real browser: what is shown of each kind of example, and the filters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Photograph

from tests.fixtures.browser import hover
from tests.fixtures.world import ANSWERS, TRUTH, World
from vlray.config.data import DataSection
from vlray.config.test import TestConfig
from vlray.evaluation.run import test as run_test
from vlray.evaluation.samples import choose
from vlray.loader.open import open_loader
from vlray.models.protocol import Goal
from vlray.tasks.metrics import Metrics

sync_api = pytest.importorskip("playwright.sync_api", reason="it drives the browser")


def made(config: TestConfig, folder: Path) -> Path:
    run_test(config, str(folder))
    return folder / "index.html"


@pytest.fixture(scope="module")
def answers(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model that answers yes, 12 examples right and 12 wrong."""
    checkpoint = world.checkpoint("lxmert", ANSWERS, prefers=3)
    return made(world.config(checkpoint, "vqa:val"), tmp_path_factory.mktemp("answers"))


def test_an_example_says_what_was_asked_answered_and_right(answers: Path, visit) -> None:
    page = visit(answers)
    assert page.locator("h1").inner_text() == "vqa:val"
    assert page.locator("#totals dd").first.inner_text().startswith("50.00")
    wrong = page.locator(".example").nth(1)
    assert wrong.locator(".badge").inner_text() == "wrong"
    assert wrong.locator(".asked").inner_text() == "What colour is the <b>thing</b>?"
    first = wrong.locator(".answers li").first
    assert first.inner_text().split() == ["\u2717", "yes", "100", "%"]
    assert wrong.locator(".answers li").count() == 4
    assert wrong.locator(".right-answers").inner_text() == (
        "Right answer: blue 7 of 10, red 2 of 10, teal 1 of 10"
    )
    assert wrong.locator(".about").inner_text() == "1001 \u00b7 other \u00b7 what color"
    page.wait_for_function(
        "() => [...document.querySelectorAll('.shot img')].every(image => image.naturalWidth > 0)"
    )


def test_examples_are_filtered_by_right_and_wrong_type_and_text(answers: Path, visit) -> None:
    page = visit(answers)
    cards = page.locator(".example")
    assert cards.count() == 24
    page.get_by_role("radio", name="wrong").check()
    assert cards.count() == 12
    assert set(page.locator(".badge").all_inner_texts()) == {"wrong"}
    page.get_by_label("Answer type").select_option("yes/no")
    page.wait_for_selector("text=No example matches the filters.")
    page.get_by_role("radio", name="all").check()
    assert cards.count() == 12
    page.get_by_placeholder("question, answer or id").fill("1004")
    assert page.locator("#count").inner_text() == "1 of 24 examples"
    page.get_by_role("button", name="Clear filters").click()
    assert cards.count() == 24


def test_regions_are_shown_by_attention_or_as_boxes_or_not_at_all(answers: Path, visit) -> None:
    page = visit(answers)
    frame = page.locator(".frame").nth(6)  # image 4 has four regions
    assert frame.locator(".heat").count() == 4
    assert frame.locator(".attention").is_visible()
    page.get_by_role("button", name="Boxes").click()
    assert frame.locator(".regions").is_visible()
    assert frame.locator(".attention").is_hidden()
    page.keyboard.press("b")
    assert frame.locator(".regions").is_hidden()
    page.keyboard.press("a")
    frame.scroll_into_view_if_needed()
    box = frame.locator(".heat").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert "attention" in page.locator("#tip").inner_text()
    assert frame.locator(".heat.marked").count() == 1


def test_the_large_view_lists_regions_by_attention(answers: Path, visit) -> None:
    page = visit(answers)
    page.locator(".shots").nth(6).click()
    shares = page.locator(".region-score").all_inner_texts()
    values = [float(text.split()[0]) for text in shares]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(100, abs=1)
    page.locator(".region").nth(2).hover()
    assert page.locator("#stage .heat.marked").count() == 1
    page.keyboard.press("ArrowRight")
    assert page.locator("#large-id").inner_text() == "1007"
    assert page.locator("#position").inner_text() == "8 / 24"
    page.keyboard.press("Escape")
    assert page.locator("#large").is_hidden()


def test_metrics_have_their_intervals(answers: Path, visit) -> None:
    page = visit(answers)
    page.get_by_role("tab", name="Metrics").click()
    assert page.locator("h3").all_inner_texts() == [
        "Overall",
        "By answer type",
        "By question type",
    ]
    cells = page.locator("#metrics tbody tr").first.locator("td").all_inner_texts()
    assert cells[:2] == ["vqa accuracy", "50.00"]
    assert " to " in cells[2]
    page.get_by_role("tab", name="Settings").click()
    assert page.get_by_role("cell", name="trained on").is_visible()


def test_metrics_are_readable_without_scripts(world: World, tmp_path: Path, visit) -> None:
    checkpoint = world.checkpoint("lxmert", ANSWERS, prefers=3, most_frequent="yes")
    path = made(world.config(checkpoint, "vqa:val", examples_shown=2), tmp_path)
    page = visit(path)
    page.get_by_role("tab", name="Metrics").click()
    assert page.locator("#metrics .range").count() == 5
    bare = page.context.browser.new_context(java_script_enabled=False).new_page()
    bare.goto(path.as_uri())
    assert bare.locator("h1").inner_text() == "vqa:val"
    rows = bare.locator("#metrics tbody tr")
    assert rows.first.is_visible()
    cells = rows.first.locator("td").all_inner_texts()
    assert (cells[0], cells[1], cells[3], cells[4]) == ("vqa accuracy", "50.00", "24", "50.00")
    assert 'always "yes"' in bare.locator("#metrics th").all_inner_texts()
    assert not bare.locator(".filters").is_visible()
    bare.context.close()


def test_a_pair_has_both_of_its_images(world: World, tmp_path: Path, visit) -> None:
    checkpoint = world.checkpoint("visualbert", TRUTH, prefers=1)
    page = visit(made(world.config(checkpoint, "nlvr2:dev"), tmp_path))
    card = page.locator(".example").first
    assert card.locator(".frame .caption").all_inner_texts() == ["left", "right"]
    assert card.locator("img").count() == 2
    assert card.locator(".right-answers").inner_text() == "Right answer: True"


def test_phrases_are_marked_in_the_text_and_found_in_the_image(
    world: World, tmp_path: Path, visit
) -> None:
    checkpoint = world.checkpoint("visualbert", Goal("phrases", 8))
    page = visit(made(world.config(checkpoint, "flickr30k-entities:test"), tmp_path))
    assert page.locator(".example").count() == 12  # captions without a phrase have nothing to show
    card = page.locator(".example").first
    assert card.locator("mark").all_inner_texts() == ["A man", "a red ball"]
    assert card.locator(".grounding .predicted").count() == 2
    card.locator("mark").first.hover()
    assert card.locator("g.faint").count() == 1


def test_a_ranking_shows_the_first_images_and_the_own(world: World, tmp_path: Path, visit) -> None:
    checkpoint = world.checkpoint("lxmert", Goal("matching", 8))
    page = visit(made(world.config(checkpoint, "vqa:val", examples_shown=4), tmp_path))
    for card in page.locator(".example").all():
        captions = card.locator(".frame .caption").all_inner_texts()
        assert [text[0] for text in captions[:3]] == ["1", "2", "3"]
        assert sum("right" in text for text in captions) == 1
        assert card.locator(".right-answers").count() == 0


def test_images_that_are_gone_leave_their_boxes(world: World, tmp_path: Path, visit) -> None:
    checkpoint = world.checkpoint("lxmert", ANSWERS)
    config = world.config(checkpoint, "vqa:val", images_root=str(tmp_path), examples_shown=2)
    page = visit(made(config, tmp_path))
    assert page.locator(".missing-note").count() == 2
    page.keyboard.press("b")
    hover(page, page.locator(".frame").first, 0.5, 0.5)
    assert page.locator(".frame .regions").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1360, 400])
def test_the_page_fits_any_screen(
    answers: Path, visit, tmp_path: Path, width: int, scheme: str
) -> None:
    page = visit(answers, width=width, scheme=scheme)
    for name in ("images", "metrics", "about"):
        page.locator(f"#tab-{name}").click()
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page.screenshot(path=tmp_path / "page.png")
    with Photograph.open(tmp_path / "page.png") as shot:
        corner = shot.convert("L").getpixel((2, 2))
    assert (corner > 200) == (scheme == "light")


def test_half_of_the_examples_are_right_where_there_are_enough(world: World) -> None:
    data = DataSection(root=str(world.root), cache_dir=str(world.root / "cache"))
    dataset = open_loader("vqa:val", world.regions, data=data, shuffle=False).dataset
    for num_right, expected in ((12, 4), (2, 2), (23, 7)):
        scores = {str(1000 + n): float(n < num_right) for n in range(24)}
        chosen = choose(dataset, Metrics({}, {}, scores, {}), 8, seed=0)
        assert len(chosen) == len(set(chosen.tolist())) == 8
        assert (chosen < num_right).sum() == expected
        assert (np.diff(chosen) > 0).all()
