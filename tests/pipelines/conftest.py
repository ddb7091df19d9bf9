"""A pipeline of two steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vlray.config.pipeline import PipelineConfig
from vlray.pipelines.steps import Step, resolve

STEPS = {
    "regions": {"command": "extract", "images": {"root": "photos"}},
    "model": {"command": "train", "corpus": "vqa-rad:train", "regions": "$regions"},
}

Steps = Callable[..., dict[str, Step]]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "below").mkdir(parents=True)
    (tmp_path / "photos" / "one.jpg").write_text("one")
    (tmp_path / "photos" / "below" / "two.jpg").write_text("two")


@pytest.fixture
def two_steps() -> dict[str, dict[str, object]]:
    return STEPS


@pytest.fixture
def steps() -> Steps:
    """Settle the steps, each with further settings by its name."""

    def make(**more: dict[str, object]) -> dict[str, Step]:
        given = {name: one | more.get(name, {}) for name, one in STEPS.items()}
        return {
            step.name: step
            for step in resolve(PipelineConfig(steps=given, output="o", trust_code=True))
        }

    return make
