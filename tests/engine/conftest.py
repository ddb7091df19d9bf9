"""A small VQA-RAD with regions, and trainings on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.tiny import MODEL
from vlray.config.train import TrainConfig

Make = Callable[..., TrainConfig]


@pytest.fixture
def make(tiny_data: Path, tmp_path: Path) -> Make:
    """Make the settings of a training into ``out``; sections are given by the names of options."""

    def config(out: str = "out", **options: Any) -> TrainConfig:
        values: dict[str, Any] = {
            "corpus": "vqa-rad:train",
            "regions": (str(tiny_data / "regions"),),
            "output": str(tmp_path / out),
            "model": {"name": MODEL},
            "training": {"batch_size": 8, "steps": 6, "log_every": 1},
            "data": {
                "annotations": {"vqa-rad": str(tiny_data / "vqa-rad")},
                "cache_dir": str(tiny_data / "cache"),
            },
            "watch": {"tensorboard": False},
        }
        for name, given in options.items():
            is_section = isinstance(values.get(name), dict)
            values[name] = values[name] | given if is_section else given
        return TrainConfig.model_validate(values)

    return config
