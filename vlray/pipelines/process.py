"""Run a step as a subprocess: write its settings, forward signals, find its run folder."""

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
from vlray.settings import atomic
from vlray.settings.layers import OWN_VARIABLES
from vlray.settings.options import ENV_PREFIX

SETTINGS = "settings"

# Loaded before any fork: a forked child must not load libraries, which takes locks.
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # Linux's prctl.h


@dataclass(frozen=True)
class Ended:
    """How the process of a step ended.

    Attributes:
        status: Exit status; negative: the signal that killed the process.
        run: Run folder of the step; None: none was found.
        was_stopped: Whether the pipeline received a stop request while the step ran.
    """

    status: int
    run: Path | None
    was_stopped: bool


def settings_file(step: Step, folder: Path) -> Path:
    """Return the path of a step's settings file."""
    return folder / SETTINGS / f"{step.name}.yaml"


def command_line(step: Step, folder: Path) -> list[str]:
    """Return the command line of a step, without the Python executable."""
    trust = ["--trust-code"] if step.config.trust_code else []
    return ["-m", f"vlray.{step.command}", "--config", str(settings_file(step, folder)), *trust]


def write_settings(step: Step, folder: Path) -> None:
    """Write the resolved settings, which repeat the step alone even if defaults change.

    URIs in it may have tokens, which the step needs, so only the owner may read the file.
    """
    settings = to_yaml(step.config.resolved()).encode()
    atomic.write(settings_file(step, folder), settings, atomic.PRIVATE)


def run_step(step: Step, folder: Path) -> Ended:
    """Run a step and wait until it ends; the step prints to the console.

    Each Ctrl-C or SIGTERM is forwarded as one SIGINT, so that the step stops as it does when run
    alone.

    Args:
        step: The step.
        folder: Folder of the pipeline.

    Raises:
        OSError: The settings cannot be written, or the process cannot start.
    """
    write_settings(step, folder)
    with warnings.catch_warnings():
        # Python 3.12 and later warn about a fork with threads; `_end_with_parent` takes no locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = subprocess.Popen(
            [sys.executable, *command_line(step, folder)],
            env=_environment(),
            # In the pipeline's process group, Ctrl-C in a terminal would reach the step twice.
            process_group=0,
            preexec_fn=_end_with_parent,
        )
    with _forwarding(process) as received:
        status = process.wait()
    return Ended(status, _run_of(process.pid, step), bool(received))


def _environment() -> dict[str, str]:
    """Return the environment without ``VLRAY_*`` options: the settings file has their values.

    As variables, they would override settings from the pipeline's flags.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(ENV_PREFIX) or name.upper() in OWN_VARIABLES
    }


def _end_with_parent() -> None:
    """Let the kernel terminate the step if the pipeline is killed; Linux only."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def _forwarding(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Forward SIGINT and SIGTERM to a process as SIGINT; yield the list of received signals."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        process.send_signal(signal.SIGINT)  # every command treats it as a stop request

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_of(pid: int, step: Step) -> Path | None:
    """Find the newest run folder of a step's process on this machine."""
    # Process ids are reused, and machines may share the folder: newest first, on this host.
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
        # Another process may remove a run folder between the listing and this line.
        return folder.stat().st_mtime
    except OSError:
        return 0.0
