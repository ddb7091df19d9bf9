"""A checkpoint is saved when Ray Train announces that a node is about to go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import ray.train

from vlray.engine import loop, ray_train
from vlray.engine.ray_train import Preemption
from vlray.engine.training import Training
from vlray.engine.work import work


def test_a_node_about_to_go_is_noticed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Preemption().is_due()  # outside Ray Train
    info: list[object] = [None, "a node"]
    monkeypatch.setattr(ray_train, "in_ray_train", lambda: True)
    monkeypatch.setattr(ray.train, "get_preemption_info", lambda: info.pop(0))
    preemption = Preemption()
    assert not preemption.is_due()
    monkeypatch.setattr(ray_train, "POLL_S", 0.0)
    assert preemption.is_due()
    assert not preemption.is_new()
    assert preemption.is_due()
    assert preemption.is_new()
    assert not preemption.is_due()


class AboutToGo(Preemption):
    """Announces a node at the third step."""

    def __init__(self) -> None:
        super().__init__()
        self._steps = 0

    def is_due(self) -> bool:
        self._steps += 1
        return True

    def is_new(self) -> bool:
        return self._steps == 3


def test_the_announcement_saves_a_checkpoint_and_training_goes_on(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []

    def save(training: Training, hooks: Mapping[str, object], *, is_best: bool) -> str:
        saved.append(training.progress.step)
        return "folder"

    monkeypatch.setattr(loop, "save", save)
    monkeypatch.setattr(loop, "Preemption", AboutToGo)
    assert work(make(training={"save_every": 100}), tmp_path / "run").ended
    assert saved == [3, 6]
