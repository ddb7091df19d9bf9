"""A small VQA-RAD with regions, and trainings on it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.small_data import write_questions, write_regions
from vlray.config.train import TrainConfig

Make = Callable[..., TrainConfig]

MODEL = f"{Path(__file__).parent / 'tiny_model.py'}:Tiny"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images with regions of 8 numbers in ``regions``, 100 questions in ``vqa-rad``."""
    folder = tmp_path_factory.mktemp("data")
    write_regions(folder / "regions", images=40, dim=8)
    write_questions(folder / "vqa-rad", images=40, train=100, test=24)
    return folder


@pytest.fixture
def make(data: Path, tmp_path: Path) -> Make:
    """Make the settings of a training into ``out``; sections are given by the names of options."""

    def config(out: str = "out", **options: Any) -> TrainConfig:
        values: dict[str, Any] = {
            "corpus": "vqa-rad:train",
            "regions": (str(data / "regions"),),
            "output": str(tmp_path / out),
            "model": {"name": MODEL},
            "training": {"batch_size": 8, "steps": 6, "log_every": 1},
            "data": {
                "annotations": {"vqa-rad": str(data / "vqa-rad")},
                "cache_dir": str(data / "cache"),
            },
            "watch": {"tensorboard": False},
        }
        for name, given in options.items():
            is_section = isinstance(values.get(name), dict)
            values[name] = values[name] | given if is_section else given
        return TrainConfig.model_validate(values)

    return config


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    """Wait for something that another process does; a minute at most."""

    def wait(is_true: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not is_true():
            assert time.monotonic() < end, "waited for a minute"
            time.sleep(0.1)

    return wait


def losses(run: Path) -> list[float]:
    """Give the loss of each step, as it was written."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]
