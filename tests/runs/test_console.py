"""The console of a run: levels, colors, and no progress display where it is quiet."""

from __future__ import annotations

import logging
import sys
from contextlib import closing
from pathlib import Path

import pytest

from vlray.config.logs import LogsConfig
from vlray.runs.folder import open_run
from vlray.runs.progress import Bar
from vlray.settings.environment import EnvironmentSection
from vlray.settings.reader import from_cli

log = logging.getLogger("vlray")


def run(tmp_path: Path, *flags: str) -> str:
    """Log one message of each level in a run, and return the run's log."""
    config = from_cli(LogsConfig, [*flags, "--env.runs-dir", str(tmp_path)])
    with closing(open_run(config, "extract")) as folder, Bar(9, " images", 10.0) as bar:
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            log.log(level, "%s is %s", logging.getLevelName(level), bar.style)
        return folder.log_path.read_text()


@pytest.mark.parametrize(
    ("flags", "console", "logged", "style"),
    [
        ((), ["INFO", "WARNING", "ERROR"], 3, "lines"),
        (("-q",), ["WARNING", "ERROR"], 3, "none"),
        (("--quiet",), ["WARNING", "ERROR"], 3, "none"),
        (("-v",), ["DEBUG", "INFO", "WARNING", "ERROR"], 4, "lines"),
        (("-q", "-v"), ["WARNING", "ERROR"], 4, "none"),
    ],
)
def test_the_console_shows_what_the_flags_ask_for_and_the_log_keeps_the_rest(
    flags: tuple[str, ...],
    console: list[str],
    logged: int,
    style: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = run(tmp_path, *flags)
    assert capsys.readouterr().err.splitlines() == [f"{level} is {style}" for level in console]
    assert len(text.splitlines()) == logged


@pytest.mark.parametrize(
    ("terminal", "variables", "expected"),
    [
        (True, {}, "\033[33mWARNING is none\033[0m"),
        (True, {"NO_COLOR": "1"}, "WARNING is none"),
        (True, {"TERM": "dumb"}, "WARNING is none"),
        (False, {}, "WARNING is none"),
    ],
)
def test_a_terminal_shows_colors(
    terminal: bool,
    variables: dict[str, str],
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    text = run(tmp_path, "-q")
    assert capsys.readouterr().err.splitlines()[0] == expected
    assert "\033" not in text


def test_the_level_of_the_console_is_an_option_of_its_own() -> None:
    assert EnvironmentSection().console_level == ""
    config = from_cli(LogsConfig, ["-q", "--env.log-level", "error"])
    assert (config.env.log_level, config.env.console_level) == ("error", "warning")
