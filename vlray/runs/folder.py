"""The folder of one run: settings, installed versions, log and status."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path

from vlray.settings import atomic
from vlray.settings.base import Command
from vlray.settings.environment import EnvironmentSection
from vlray.settings.job_folder import is_copy
from vlray.settings.log_format import FILE_ONLY, JsonFormatter
from vlray.settings.secrets import printable, redact, redact_all

STATUS = "status.json"

_INITIAL_FILES = ("settings.yaml", "changed.yaml", "requirements.txt", STATUS)
_REFUSED_WITHIN_S = 60.0
"""A run that fails later than this is kept, even if it wrote no results."""

_open: list[RunFolder] = []  # the innermost run is the last one

log = logging.getLogger("vlray")


@dataclass(frozen=True)
class RunFolder:
    """The folder of an active run, with its open log.

    ``status.json`` holds ``argv``, ``cwd``, ``host``, ``pid``, the start time and the status
    ``running``. When the run ends, the end time is added, and the status becomes ``finished``,
    ``stopped`` (Ctrl-C, SIGTERM) or ``failed``. A killed process cannot write its status, but its
    lock on the log is released, so that `Run` detects the end.
    """

    path: Path
    log_path: Path
    handlers: tuple[logging.Handler, ...]

    @property
    def name(self) -> str:
        """Name of the run, unique in its project."""
        return self.path.name

    def note(self, result: str) -> None:
        """Record the run's result in one line, which ``vlray logs`` shows in its list."""
        try:
            self._update(result=result)
        except OSError as error:  # a missing note must not fail a finished run
            log.warning("%s cannot be written: %s", self.path / STATUS, error)

    def close(self, status: str = "finished", *, is_refused: bool = False) -> None:
        """Record the end of the run and close its log.

        Args:
            status: ``finished``, ``stopped`` or ``failed``.
            is_refused: Whether the run failed because of a user error. If it has written nothing
                yet, its folder is removed: the console has the message.
        """
        if self in _open:
            _open.remove(self)
        with contextlib.suppress(OSError):  # `Run` sees the released lock
            self._update(status=status, ended=_now())
        for handler in self.handlers:
            logging.getLogger("vlray").removeHandler(handler)
            with contextlib.suppress(OSError):  # a full disk, which `_LogFile` has reported
                handler.close()
        if is_refused and self._is_bare():
            shutil.rmtree(self.path, ignore_errors=True)

    def _is_bare(self) -> bool:
        """Return whether the run is recent and has only the files written at its start."""
        try:
            initial = {self.log_path, *(self.path / name for name in _INITIAL_FILES)}
            age = time.time() - (self.path / "settings.yaml").stat().st_mtime
            return set(self.path.iterdir()) <= initial and age < _REFUSED_WITHIN_S
        except OSError:
            return False

    def _update(self, **values: object) -> None:
        path = self.path / STATUS
        self.path.stat()  # raises if the user deleted the folder: do not create it again
        saved = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        text = json.dumps(saved | values, indent=2) + "\n"
        atomic.write(path, text.encode(), atomic.PRIVATE)


def open_run(config: Command, command: str) -> RunFolder:
    """Create ``runs/<project>/<command>-<time>/``, write the settings and start the log.

    The folder holds ``settings.yaml`` (all settings; ``--config`` with it repeats the run),
    ``changed.yaml`` (settings that differ from the defaults), ``requirements.txt`` (installed
    versions), ``status.json`` (see `RunFolder`) and the log of the logger ``vlray``. Log messages
    also go to stderr, without tracebacks.

    Raises:
        OSError: The folder cannot be created.
    """
    try:
        return _open_run(config, command)
    except OSError as error:
        raise OSError(f"the run folder cannot be created (--env.runs-dir): {error}") from error


def _open_run(config: Command, command: str) -> RunFolder:
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    path = _make_folder(config.env.runs_dir / config.project, f"{command}-{now}")
    settings, changed = redact_all(config.resolved()), redact_all(config.changed())
    log_path = path / f"{config.project}-{command}-{now}.log"
    for name, text in (
        ("settings.yaml", to_yaml(settings)),
        ("changed.yaml", to_yaml(changed)),
        ("requirements.txt", "\n".join(_installed()) + "\n"),
        (log_path.name, ""),
    ):
        (path / name).touch(atomic.PRIVATE)
        (path / name).write_text(text, encoding="utf-8")
    fields = {"project": config.project, "run": path.name}
    folder = RunFolder(path, log_path, _start_log(log_path, config.env, fields))
    _open.append(folder)
    if is_copy(path.absolute()):
        log.warning(
            "the run folder %s is in Ray's copy of the job's working directory, which is deleted "
            "later; to keep settings and log, pass --env.runs-dir with an absolute path",
            path.absolute(),
        )
    folder._update(
        command=command,
        argv=redact_all(sys.orig_argv),  # unlike sys.argv, includes the interpreter and -m
        cwd=str(Path.cwd()),
        host=socket.gethostname(),
        pid=os.getpid(),
        started=_now(),
        status="running",
    )
    return folder


def current_run() -> str:
    """Return the name of this process's current run; empty if there is none."""
    return _open[-1].name if _open else ""


def _now() -> str:
    """Return the local time in ISO 8601, to the second and with the UTC offset."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def to_yaml(values: Mapping[str, object]) -> str:
    """Convert settings to YAML, keeping the order of their definition."""
    import yaml

    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _make_folder(parent: Path, name: str) -> Path:
    """Create a new folder; later runs in the same second get a number."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(mode=0o700)  # logs and settings are nobody else's business
        except FileExistsError:
            number += 1
        else:
            return path


def _start_log(
    path: Path, options: EnvironmentSection, fields: dict[str, str]
) -> tuple[logging.Handler, ...]:
    file = _LogFile(path, encoding="utf-8")
    assert file.stream is not None  # without delay=True the constructor opens it
    with contextlib.suppress(OSError):  # some network file systems have no locks
        fcntl.flock(file.stream, fcntl.LOCK_EX)
    file.setFormatter(_LogFormatter("%(asctime)s %(levelname)s %(message)s"))
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(_Console(colored=_is_colored()))
    if options.console_level:
        console.setLevel(options.console_level.upper())
    if options.log_level != "debug" and options.log_format != "json":
        console.addFilter(lambda record: not getattr(record, FILE_ONLY, False))
    if options.log_format == "json":
        for handler in (file, console):
            handler.setFormatter(JsonFormatter(**fields))
    logger = logging.getLogger("vlray")
    logger.setLevel(options.log_level.upper())
    for handler in (file, console):
        logger.addHandler(handler)
    return file, console


class _LogFile(logging.FileHandler):
    """Handler that reports a write error once; logging would print a traceback for each record."""

    has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - overrides a method of logging
        if not self.has_failed:
            self.has_failed = True
            sys.stderr.write(f"the log cannot be written: {sys.exception()}\n")


class _LogFormatter(logging.Formatter):
    """Formatter for the log file that removes credentials and control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(redact(super().format(record)))  # `vlray logs` prints the file


class _Console(logging.Formatter):
    """Formatter for the console: colored by level, without tracebacks, which the log file has."""

    def __init__(self, *, colored: bool) -> None:
        super().__init__()
        self._colors = {logging.WARNING: "33", logging.ERROR: "31"} if colored else {}

    def format(self, record: logging.LogRecord) -> str:
        message = printable(redact(record.getMessage()))
        color = self._colors.get(record.levelno)
        return f"\033[{color}m{message}\033[0m" if color else message


def _is_colored() -> bool:
    """Return whether the console shows colors (https://no-color.org)."""
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return terminal and not os.environ.get("NO_COLOR")


def _installed() -> list[str]:
    """Return the installed distributions as pip requirements, with their URLs if any."""
    lines = set()
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        direct = json.loads(distribution.read_text("direct_url.json") or "{}")  # PEP 610
        if direct.get("dir_info", {}).get("editable"):
            lines.add(f"-e {direct['url']}#egg={name}")
        elif direct:
            lines.add(redact(f"{name} @ {direct['url']}"))
        else:
            lines.add(f"{name}=={distribution.version}")
    return sorted(lines, key=str.lower)
