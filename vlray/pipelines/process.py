"""A step as a process of its own: its settings' file, its signals, its run folder."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from vlray.pipelines.steps import Step
from vlray.runs.folder import STATUS, to_yaml
from vlray.settings.layers import OWN_VARIABLES
from vlray.settings.options import ENV_PREFIX
from vlray.storage import files

SETTINGS = "settings"

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # Linux's prctl.h


@dataclass(frozen=True)
class Ended:
    """A step's process that has ended.

    Attributes:
        status: Its exit status; below 0: the signal that killed it.
        run: Its run folder; None: it made none.
        was_stopped: Whether the pipeline was asked to stop meanwhile.
    """

    status: int
    run: Path | None
    was_stopped: bool


def settings_file(step: Step, folder: Path) -> Path:
    """Say where a step's settings are written."""
    return folder / SETTINGS / f"{step.name}.yaml"


def command_line(step: Step, folder: Path) -> list[str]:
    """Give the arguments of a step's process, after Python's own."""
    return ["-m", f"vlray.{step.command}", "--config", str(settings_file(step, folder))]


def run_step(step: Step, folder: Path) -> Ended:
    """Run a step to its end; what it writes to the console goes through.

    Ctrl-C and SIGTERM reach it as one Ctrl-C each, so that it ends as it does alone.

    Args:
        step: Which.
        folder: The pipeline's.

    Raises:
        OSError: Its settings cannot be written, or the process cannot start.
    """
    settings = to_yaml(step.config.resolved()).encode()
    files.write_atomic(*files.resolve(settings_file(step, folder)), settings)
    with warnings.catch_warnings():
        # From Python 3.12 on it warns of forks beside threads; what runs there takes no locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = subprocess.Popen(
            [sys.executable, *command_line(step, folder)],
            env=_environment(),
            # A group of its own: a terminal's Ctrl-C would reach it twice otherwise.
            process_group=0,
            preexec_fn=_end_with_parent,
        )
    with _forwarding(process) as sent:
        status = process.wait()
    return Ended(status, _run_of(process.pid, step), bool(sent))


def _environment() -> dict[str, str]:
    """Leave out the variables that are options: they are in the settings, below what flags say."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(ENV_PREFIX) or name.upper() in OWN_VARIABLES
    }


def _end_with_parent() -> None:
    """Let a killed pipeline take its step along, where the system can."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _forwarding(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Pass signals on, while it lasts; gives the list of those that came."""
    sent: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        sent.append(number)
        process.send_signal(signal.SIGINT)  # which every command takes as the wish to stop

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield sent
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_of(pid: int, step: Step) -> Path | None:
    """Find the run folder that a process on this machine made, the newest of its number."""
    runs = step.config.env.runs_dir / step.config.project
    for folder in sorted(runs.glob(f"{step.command}-*"), key=_changed, reverse=True):
        try:
            status = json.loads((folder / STATUS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if status.get("pid") == pid and status.get("host") == socket.gethostname():
            return folder
    return None


def _changed(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
