"""The page of a pipeline in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from vlray.config.pipeline import PipelineConfig
from vlray.pipelines.page import write_page
from vlray.pipelines.run import Outcome
from vlray.pipelines.state import Record, State
from vlray.pipelines.steps import resolve

pytest.importorskip("playwright.sync_api", reason="it drives the browser")


@pytest.fixture
def page_file(two_steps: dict[str, dict[str, object]]) -> Path:
    """Of a pipeline whose second step failed; what was measured is there from before."""
    more = {
        "scores": {"command": "test", "checkpoint": "$model", "corpus": "vqa-rad:test"},
    }
    config = PipelineConfig(steps=two_steps | more, output="o")
    steps, state = resolve(config), State(Path("o"))
    run = Path("runs/default/train-20261128-030000")
    run.mkdir(parents=True)
    (run / "default-train-20261128-030000.log").write_text("2026-11-28 03:00:00,000 INFO a\n")
    Image.new("RGB", (800, 400), "white").save(run / "curves.png")
    record = Record("finished", {}, {}, "0.1.0", 1e9, 61.4, "o/regions", "", "5 <i>images</i>")
    state.record("regions", record)
    state.record(
        "model", Record("failed", {}, {}, "0.1.0", 1e9, 5, "o/model", str(run.resolve()), "")
    )
    scores = Path("o/scores")
    scores.mkdir(parents=True)
    figure = {"value": 51.25, "low": 49.0, "high": 53.5, "n": 451}
    metrics = {"figures": {"exact match": figure}, "by": {"answer_type": {"OPEN": {"value": 40}}}}
    (scores / "metrics.json").write_text(json.dumps(metrics))
    (scores / "index.html").write_text("<title>a test</title>")
    outcome = Outcome(1, states={"regions": "already done", "model": "failed", "scores": "not run"})
    outcome.why["model"] = "o/regions has changed"
    return write_page(config, steps, Path("o"), state, outcome)


def test_each_step_says_its_state_result_and_where_its_files_are(page_file: Path, visit) -> None:
    page = visit(page_file.absolute())
    assert page.locator("h1").inner_text() == "o"
    assert page.locator("#totals dd").all_inner_texts() == ["1 of 3 done", "0:01:06"]
    steps = page.locator(".step")
    assert steps.locator("h2").all_inner_texts() == ["regions", "model", "scores"]
    badges = steps.locator(".badge").all_inner_texts()
    assert badges == ["already done", "failed", "not run"]
    assert steps.nth(0).locator(".result").inner_text() == "5 <i>images</i>"
    assert "reason: o/regions has changed; depends on regions" in steps.nth(1).inner_text()
    cells = steps.nth(2).locator(".metrics-table td").all_inner_texts()
    assert cells == [
        *("exact match", "51.25", "49.00 to 53.50", "451"),
        *("answer type: OPEN", "40.00", "", ""),
    ]
    steps.nth(1).locator("summary").click()
    assert "corpus\tvqa-rad:train" in steps.nth(1).locator("table").inner_text()
    page.wait_for_function("document.querySelector('.curves').naturalWidth === 800")
    steps.nth(2).get_by_role("link", name="page").click()
    assert page.title() == "a test"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1360, 400])
def test_the_page_fits_its_window(page_file: Path, visit, width: int, scheme: str) -> None:
    page = visit(page_file.absolute(), width=width, scheme=scheme)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.screenshot(path=f"page-{width}-{scheme}.png", full_page=True)
