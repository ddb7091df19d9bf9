"""The folder of one run: its settings, its installed versions, its log and how it ended."""

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
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from vlray.settings import atomic
from vlray.settings.base import Command
from vlray.settings.environment import EnvironmentSection
from vlray.settings.log_format import JsonFormatter

STATUS = "status.json"

_OWN = ("settings.yaml", "changed.yaml", "requirements.txt", STATUS)
_REFUSED_WITHIN_S = 60.0
"""What ends later has done something, whatever its status."""

_open: list[RunFolder] = []  # the last one is the innermost

log = logging.getLogger("vlray")


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, open for logging until it is closed.

    Its ``status.json`` says who runs what (``argv``, ``cwd``, ``host``, ``pid``), since when, and
    later until when and how it ended: ``finished``, ``stopped`` (Ctrl-C, SIGTERM) or ``failed``. A
    process that is killed writes nothing any more, but the lock that it has on its log goes with
    it.
    """

    path: Path
    log_path: Path
    handlers: tuple[logging.Handler, ...]

    @property
    def name(self) -> str:
        """Its name in its project."""
        return self.path.name

    def note(self, result: str) -> None:
        """Keep what came out, in a line that ``vlray logs`` shows in its list."""
        try:
            self._update(result=result)
        except OSError as error:  # what the run has computed is worth more
            log.warning("%s cannot be written: %s", self.path / STATUS, error)

    def close(self, status: str = "finished", *, is_refused: bool = False) -> None:
        """Stop logging into it, and record how the run ended.

        Args:
            status: ``finished``, ``stopped`` or ``failed``.
            is_refused: Whether it was a mistake of the user's: where the run did nothing before,
                its folder is removed, and its words were on the console.
        """
        if self in _open:
            _open.remove(self)
        with contextlib.suppress(OSError):  # the lock on the log ends with the process
            self._update(status=status, ended=_now())
        for handler in self.handlers:
            logging.getLogger("vlray").removeHandler(handler)
            with contextlib.suppress(OSError):  # a full disk, which `_LogFile` has reported
                handler.close()
        if is_refused and self._is_bare():
            shutil.rmtree(self.path, ignore_errors=True)

    def _is_bare(self) -> bool:
        """Tell whether the run left nothing but its beginning."""
        try:
            known = {self.log_path, *(self.path / name for name in _OWN)}
            age = time.time() - (self.path / "settings.yaml").stat().st_mtime
            return set(self.path.iterdir()) <= known and age < _REFUSED_WITHIN_S
        except OSError:
            return False

    def _update(self, **values: Any) -> None:
        path = self.path / STATUS
        self.path.stat()  # a run folder that the user deleted is not created again
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        atomic.write(path, (json.dumps(known | values, indent=2) + "\n").encode())


def open_run(config: Command, command: str) -> RunFolder:
    """Make ``runs/<project>/<command>-<time>/``, write what repeats the run, and start its log.

    The folder holds ``settings.yaml`` (every setting; ``--config`` of it repeats the run),
    ``changed.yaml`` (those that are not the defaults), ``requirements.txt`` (the installed
    versions), ``status.json`` (see `RunFolder`) and the log of the logger ``vlray``, whose plain
    messages also go to stderr.

    Raises:
        OSError: It cannot be made.
    """
    try:
        return _open_run(config, command)
    except OSError as error:
        raise OSError(f"no run folder can be made (--env.runs-dir): {error}") from error


def _open_run(config: Command, command: str) -> RunFolder:
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    path = _make_folder(config.env.runs_dir / config.project, f"{command}-{now}")
    (path / "settings.yaml").write_text(to_yaml(config.resolved()), encoding="utf-8")
    (path / "changed.yaml").write_text(to_yaml(config.changed()), encoding="utf-8")
    (path / "requirements.txt").write_text("\n".join(_installed()) + "\n", encoding="utf-8")
    log_path = path / f"{config.project}-{command}-{now}.log"
    about = {"project": config.project, "run": path.name}
    folder = RunFolder(path, log_path, _start_log(log_path, config.env, about))
    _open.append(folder)
    folder._update(
        command=command,
        argv=sys.orig_argv,
        cwd=str(Path.cwd()),
        host=socket.gethostname(),
        pid=os.getpid(),
        started=_now(),
        status="running",
    )
    return folder


def current_run() -> str:
    """Give the name of the run that this process is in; empty: it is in none."""
    return _open[-1].name if _open else ""


def _now() -> str:
    """Say the time to the second, with its distance from UTC."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def to_yaml(values: dict[str, Any]) -> str:
    """Write settings as YAML in the order of their definition."""
    import yaml

    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _make_folder(parent: Path, name: str) -> Path:
    """Make a folder that is this run's alone; runs of one second are numbered."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = parent / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def _start_log(
    path: Path, options: EnvironmentSection, about: dict[str, str]
) -> tuple[logging.Handler, ...]:
    file = _LogFile(path, encoding="utf-8")
    assert file.stream is not None  # it is opened at once
    with contextlib.suppress(OSError):  # some network file systems have no locks
        fcntl.flock(file.stream, fcntl.LOCK_EX)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(_WithoutTraceback())
    if options.log_format == "json":
        for handler in (file, console):
            handler.setFormatter(JsonFormatter(**about))
    logger = logging.getLogger("vlray")
    logger.setLevel(options.log_level.upper())
    for handler in (file, console):
        logger.addHandler(handler)
    return file, console


class _LogFile(logging.FileHandler):
    """Reports once that the log cannot be written; logging itself prints a traceback each time."""

    has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own name
        if not self.has_failed:
            self.has_failed = True
            sys.stderr.write(f"the log cannot be written: {sys.exception()}\n")


class _WithoutTraceback(logging.Formatter):
    """Plain messages for a console; tracebacks are in the file."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage()


def _installed() -> list[str]:
    """List the installed distributions as pip's requirements, where one came from included."""
    lines = set()
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            lines.add(f"-e {origin['url']}#egg={name}")
        elif origin:
            lines.add(f"{name} @ {origin['url']}")
        else:
            lines.add(f"{name}=={distribution.version}")
    return sorted(lines, key=str.lower)
