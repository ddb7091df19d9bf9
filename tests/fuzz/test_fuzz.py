"""A short campaign; ``python -m tests.fuzz`` runs a long one."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.fuzz.campaign import Campaign
from tests.fuzz.child import run
from tests.fuzz.inputs import INPUTS

pytestmark = pytest.mark.usefixtures("processes")


@pytest.mark.parametrize("item", INPUTS, ids=lambda item: item.name)
def test_an_undamaged_input_is_accepted(item, tmp_path: Path, monkeypatch) -> None:
    """Otherwise its damaged copies would prove nothing."""
    (tmp_path / "case").mkdir()
    monkeypatch.setenv("VLRAY_HOME", str(tmp_path / ("case" if item.name == "env" else "home")))
    item.write(tmp_path / "case")
    outcome = run(item.main, item.argv, tmp_path / "case")
    assert outcome.kind == "done", outcome.text


def test_damaged_inputs_end_as_promised(tmp_path: Path) -> None:
    campaign = Campaign(seed=1, findings=tmp_path)
    campaign.mutations(len(INPUTS))
    assert not campaign.bad, "\n".join(campaign.bad)


def test_random_command_lines_end_as_promised(tmp_path: Path) -> None:
    campaign = Campaign(seed=1, findings=tmp_path)
    campaign.command_lines(30)
    assert not campaign.bad, "\n".join(campaign.bad)


def _crash(argv: list[str]) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang(argv: list[str]) -> None:
    time.sleep(60)


def _eat(argv: list[str]) -> None:
    try:
        bytearray(2**33)
    except MemoryError:
        sys.stderr.write("vlray x failed: out of memory\n")
        sys.exit(1)


def _escape(argv: list[str]) -> None:
    raise KeyError("escaped")


def _bug(argv: list[str]) -> None:
    sys.stderr.write("vlray x failed: KeyError: 'a'\n")
    sys.exit(1)


@pytest.mark.parametrize(
    ("main", "kind"),
    [
        (_crash, "crash"),
        (_hang, "hang"),
        (_eat, "memory"),
        (_escape, "traceback"),
        (_bug, "bug"),
        (lambda argv: sys.exit(2), "refused"),
        (lambda argv: sys.exit(5), "traceback"),
        (lambda argv: None, "done"),
    ],
)
def test_each_end_is_recognized(main, kind: str, tmp_path: Path) -> None:
    assert run(main, [], tmp_path, seconds=0.5 if kind == "hang" else 60).kind == kind
