"""Compute threads: the cores of this process, unless OMP_NUM_THREADS says otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from vlray.engine import threads


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000\n", 3),
        ("200000 100000\n", 2),
        ("150000 100000\n", 1),
        ("50000 100000\n", 1),
        ("800000 100000\n", 3),
        (None, 3),
    ],
)
def test_a_container_limits_the_cores(
    quota: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpu.max"
    if quota:
        file.write_text(quota)
    monkeypatch.setattr(threads, "CPU_MAX", file)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
    assert threads.usable_cores() == cores


def test_the_variable_of_the_user_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 3)
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads.set_threads()
    assert torch.get_num_threads() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    threads.set_threads()
    assert torch.get_num_threads() == 3
