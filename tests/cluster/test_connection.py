"""The connection to Ray, or the start of a local one, without starting any."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private import services

from vlray.cluster import connection
from vlray.config.cluster import ClusterSection
from vlray.config.logs import LogsConfig
from vlray.runs.folder import open_run
from vlray.settings.environment import EnvironmentSection

TIMED_OUT = Exception("The current node timed out during startup. This could happen because")


def starts(monkeypatch: pytest.MonkeyPatch, *outcomes: Exception | None) -> list[str | None]:
    """Let the calls of ``ray.init`` end so; return the list of their addresses."""
    addresses: list[str | None] = []

    def init(address: str | None, **arguments: Any) -> None:
        if not addresses:  # the second try leaves Ray as it is
            assert services.start_api_server() == (None, None)
        os.write(2, b"[2026-11-29 01:17:31,507 E 1 1] gcs_client.cc:1: no answer\n")
        addresses.append(address)
        if error := outcomes[len(addresses) - 1]:
            raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    return addresses


def test_a_start_that_times_out_is_tried_once_again(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    addresses = starts(monkeypatch, TIMED_OUT, None)
    folder = open_run(LogsConfig(env=EnvironmentSection(runs_dir=tmp_path)), "extract")
    connection._init(ClusterSection(address="local"))
    folder.close()
    assert addresses == ["local", "local"]
    assert services.start_api_server.__name__ == "start_api_server"
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("Ray did not start (The current node timed out during startup.")
    assert line.endswith("trying once more")
    assert folder.log_path.read_text().count("no answer") == 2  # what Ray prints is in the log


def test_a_start_that_times_out_twice_is_explained(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    starts(monkeypatch, TIMED_OUT, TimeoutError("Timed out after 30 seconds"))
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(RuntimeError, match=r"tried twice \(Timed out after 30 .*address none\)$"),
    ):
        connection._init(ClusterSection(address="local"))


def test_a_mistake_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = starts(monkeypatch, ValueError("Attempting to cap object store memory"))
    with pytest.raises(ValueError, match="cap object store"):
        connection._init(ClusterSection(address="local"))
    assert len(addresses) == 1
