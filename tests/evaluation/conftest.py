"""One small world for all tests, and a browser."""

from __future__ import annotations

import pytest
import torch

from tests.browser import browser, visit
from tests.evaluation.made import World

__all__ = ["browser", "visit"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))
