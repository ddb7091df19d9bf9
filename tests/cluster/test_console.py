"""Ray's own output on the console, and the settings of the process that uses Ray."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from vlray.cluster.connection import default_variables
from vlray.cluster.console import HARMLESS, quiet_loggers, ray_in_log
from vlray.settings.log_format import FILE_ONLY

LINE = (
    f"[2026-11-29 01:17:31,507 E 1 1] core_worker.cc:2465: Actor ... See https://{HARMLESS} ...\n"
)
MESSAGE = "[2026-11-29 01:17:31,507 E 1 1] core_worker.cc:1: out of memory"
DUMP = (
    "*** StackTrace Information ***\n"
    "/lib/ray/_raylet.so(+0x16b1caa) [0x7f3c8f2b1caa] ray::operator<<()\n"
)


def test_what_rays_core_prints_is_logged_and_all_else_passes(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="vlray"), ray_in_log():
        os.write(2, LINE.encode())
        os.write(2, f"{MESSAGE}\n{DUMP}".encode())
        os.write(2, b"\r 5%|#")  # a bar has no end of line
        os.write(2, LINE.encode())
        os.write(2, b"done *** all\n")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "\r 5%|#done *** all\nafterwards\n"
    assert caplog.messages == [MESSAGE, *DUMP.splitlines()]  # and nothing of the harmless line
    assert caplog.records[0].levelno == logging.ERROR
    assert all(getattr(record, FILE_ONLY) for record in caplog.records)


def test_an_error_passes_and_the_console_is_as_before(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), ray_in_log():
        raise RuntimeError
    os.write(2, LINE.encode())
    assert capfd.readouterr().err == LINE


def test_rays_own_warnings_are_logged_without_colors(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logger, handler = logging.getLogger("ray.data"), logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, logger="vlray"), ray_in_log():
            logger.warning("\x1b[33mthe object store is small\x1b[0m")
        assert capsys.readouterr().err == ""
        assert caplog.messages[0] == "the object store is small"
        logger.warning("as before")
        assert "as before" in capsys.readouterr().err
    finally:
        logger.removeHandler(handler)


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
