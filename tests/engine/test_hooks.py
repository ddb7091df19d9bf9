"""Hooks: called where they should be, with a state that a resumed training goes on from."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.tiny import losses
from vlray.config.train import TrainConfig
from vlray.engine.stop import StopRequest
from vlray.engine.work import work

Make = Callable[..., TrainConfig]

OWN = """
from vlray.engine.hooks.protocol import Hook


class Counted(Hook):
    def begin(self, training):
        self.steps = 0

    def after_step(self, training, values):
        self.steps += 1

    def after_evaluation(self, training, metrics):
        metrics["steps seen"] = float(self.steps)

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


class NoHook:
    pass
"""


class StopAfter(StopRequest):
    """Wants to stop after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def requested(self) -> bool:
        self._left -= 1
        return self._left <= 0


def saved(config: TrainConfig, which: str = "last") -> dict[str, torch.Tensor]:
    return load_file(Path(config.output, which, "tiny.safetensors"))


def evaluations(run: Path) -> list[Mapping[str, Any]]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record["kind"] == "valid"]


def test_a_hook_of_the_users_adds_a_metric_and_keeps_its_state(make: Make, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    options: dict[str, Any] = {
        "hooks": [f"{tmp_path / 'own.py'}:Counted"],
        "training": {"steps": 8, "evaluate_every": 4},
        "validation": {"holdout": 0.2},
    }
    work(make(**options), tmp_path / "first", StopAfter(6))
    work(make(**options), tmp_path / "second")
    assert [record["steps seen"] for record in evaluations(tmp_path / "second")] == [4, 8]


def test_averaged_weights_are_saved_and_the_training_goes_on_from_its_own(
    make: Make, tmp_path: Path
) -> None:
    options = {"optim": {"ema": 0.9, "lr": 1e-2}, "training": {"steps": 8}}
    plain = make("plain", **options | {"optim": {"lr": 1e-2}})
    whole, broken = make("whole", **options), make("broken", **options)
    for config in (plain, whole):
        work(config, tmp_path / Path(config.output).name)
    work(broken, tmp_path / "first", StopAfter(5))
    work(broken, tmp_path / "second")
    assert losses(tmp_path / "whole") == losses(tmp_path / "plain")
    assert losses(tmp_path / "second") == losses(tmp_path / "plain")
    averaged, last = saved(whole), saved(plain)
    assert all(torch.equal(averaged[name], saved(broken)[name]) for name in averaged)
    assert not torch.equal(averaged["head.weight"], last["head.weight"])
    assert torch.allclose(averaged["head.weight"], last["head.weight"], atol=0.05)


def test_a_signal_saves_and_the_training_goes_on(make: Make, tmp_path: Path) -> None:
    class Signal(StopRequest):
        """Stands for a scheduler: sends the signal in the second step."""

        asked = 0
        steps: tuple[str, ...] = ()

        def requested(self) -> bool:
            self.asked += 1
            if self.asked == 2:
                os.kill(os.getpid(), signal.SIGUSR1)
            self.steps = (*self.steps, *sorted(p.name for p in (tmp_path / "out").glob("step*")))
            return False

    config = make(hooks=["save-on-signal"])
    before = signal.getsignal(signal.SIGUSR1)
    scheduler = Signal()
    assert work(config, tmp_path / "run", scheduler).ended
    assert len(set(scheduler.steps)) == 1  # a checkpoint before the last step
    assert signal.getsignal(signal.SIGUSR1) == before


def test_what_is_no_hook_is_refused(make: Make, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(ValueError, match="built in are save-on-signal, trackio"):
        work(make(hooks=["nothing"]), tmp_path / "run")
    with pytest.raises(ValueError, match="derives from"):
        work(make(hooks=[f"{tmp_path / 'own.py'}:NoHook"]), tmp_path / "run")
