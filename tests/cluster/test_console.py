"""Ray's own output on the console, and the settings of the process that uses Ray."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from vlray.cluster.connection import default_variables
from vlray.cluster.console import HARMLESS, quiet_loggers, without_harmless_line

LINE = (
    f"[2026-11-29 01:17:31,507 E 1 1] core_worker.cc:2465: Actor ... See https://{HARMLESS} ...\n"
)


def test_only_the_harmless_line_of_the_core_is_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    with without_harmless_line():
        os.write(2, LINE.encode())
        os.write(2, b"[2026-11-29 01:17:31,507 E 1 1] core_worker.cc:1: out of memory\n")
        os.write(2, b"\r 5%|#")  # a bar has no end of line
        os.write(2, LINE.encode())
        os.write(2, b"done\n")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == (
        "[2026-11-29 01:17:31,507 E 1 1] core_worker.cc:1: out of memory\n\r 5%|#done\nafterwards\n"
    )


def test_an_error_passes_and_the_console_is_as_before(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), without_harmless_line():
        raise RuntimeError
    os.write(2, LINE.encode())
    assert capfd.readouterr().err == LINE


def test_loggers_and_variables_are_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VL_GIVEN", "mine")
    logger = logging.getLogger("some.library")
    with (
        quiet_loggers({"some.library": logging.ERROR}),
        default_variables({"VL_GIVEN": "theirs", "VL_NEW": "1"}),
    ):
        assert logger.level == logging.ERROR
        assert (os.environ["VL_GIVEN"], os.environ["VL_NEW"]) == ("mine", "1")
    assert logger.level == logging.NOTSET
    assert os.environ["VL_GIVEN"] == "mine"
    assert "VL_NEW" not in os.environ


def test_an_extraction_leaves_rays_settings_as_they_were(
    ray_cluster: str, photos: Path, grid_detector: str, tmp_path: Path
) -> None:
    import ray.data

    import vlray

    context = ray.data.DataContext.get_current()
    before = {name: repr(value) for name, value in vars(context).items()}
    levels = {
        name: logging.getLogger(name).level
        for name in ("ray", "ray.data", "ray.data._internal.progress", "vlray")
    }
    variables = dict(os.environ)
    result = vlray.extract(photos, tmp_path / "out", detector=grid_detector)
    assert result.images == 5
    assert ray.is_initialized()
    assert ray.data.DataContext.get_current() is context
    assert {name: repr(value) for name, value in vars(context).items()} == before
    assert {name: logging.getLogger(name).level for name in levels} == levels
    assert dict(os.environ) == variables
