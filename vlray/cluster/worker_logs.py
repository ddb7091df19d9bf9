"""Forwarding of output from Ray tasks and actors to the run's log."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from vlray.cluster.console import (
    HARMLESS,
    is_core_line,
    ray_in_log,
    to_log_file,
    without_colors,
)
from vlray.settings.environment import EnvironmentSection
from vlray.settings.log_format import FILE_ONLY, WORKER, JsonFormatter, LogFormat, parse_json

_LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
_TEXT = re.compile(r"(?P<levelname>[A-Z]+) (?P<message>.*)", re.DOTALL)


def log_to_stderr(options: EnvironmentSection) -> None:
    """Write this worker's vlray messages to its standard error, from which Ray collects them.

    Ray passes the messages to its dashboard, to the driver's console and, with `forwarded`, to the
    run's log. A worker may run tasks of several runs one after another, so each task calls this.

    Args:
        options: Log level and format of the run.
    """
    logger = logging.getLogger("vlray")
    if not logger.handlers:
        logger.addHandler(_Stderr())
    for handler in logger.handlers:
        if isinstance(handler, _Stderr):
            handler.format_as(options.log_format)
            logger.setLevel(options.log_level.upper())


class _Stderr(logging.StreamHandler[TextIO]):
    """vlray's handler in a worker; its class distinguishes it from all other handlers."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def format_as(self, log_format: LogFormat) -> None:
        text = logging.Formatter("%(levelname)s %(message)s")
        self.setFormatter(_WorkerFormatter() if log_format == "json" else text)


class _WorkerFormatter(JsonFormatter):
    """JSON formatter that adds Ray's ids for the worker and its task."""

    def format(self, record: logging.LogRecord) -> str:
        setattr(record, WORKER, _worker_context())
        return super().format(record)


def _worker_context() -> dict[str, str]:
    """Return the ids of this worker, its node and its current task, keyed by Ray's names."""
    import ray

    if not ray.is_initialized():
        return {}
    context = ray.get_runtime_context()
    ids = {"job_id": context.get_job_id(), "worker_id": context.get_worker_id()}
    ids |= {"node_id": context.get_node_id(), "actor_id": context.get_actor_id()}
    ids |= {"actor_name": context.get_actor_name(), "task_name": context.get_task_name()}
    if ids["task_name"]:  # in an actor's own threads, Ray invents an id
        ids["task_id"] = context.get_task_id()
    return {name: value for name, value in ids.items() if value}


# Workers log the same lines mostly while they start. The limit bounds memory if a detector logs
# many different lines.
REMEMBERED_LINES = 1_000


@contextmanager
def forwarded(*, restores: bool = True) -> Iterator[None]:
    """Redirect the output of tasks and actors to the logger ``vlray.worker``.

    The output then appears in the run's log and on the console, while Ray's own printing is off.
    Identical lines from several workers are logged once. Stack dumps of a worker that crashes, and
    what Ray itself writes, are in the log only; see also `ray_in_log`.

    Args:
        restores: Whether Ray prints again after the block. In a command, which ends soon, it would
            print the last lines of its workers after the summary.
    """
    # Private in Ray 2.60, which has no public hook for workers' output. If the import fails,
    # the messages are only in Ray's own log files.
    try:
        from ray._private import worker as core
        from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher

        print_notes = core.print_to_stdstream
    except (ImportError, AttributeError):
        yield
        return
    if isinstance(last := getattr(print_notes, "__self__", None), _Forwarder):
        print_notes = last.print_notes  # the last block ended with an exception
    forwarder = _Forwarder(print_notes)
    printing = [pair for pair in dispatcher.handlers if pair[0] == "ray_print_logs"]
    dispatcher.remove_handler("ray_print_logs")
    dispatcher.add_handler("vlray", forwarder.handle)
    # The thread that receives notes such as "a worker died" prints them with this function.
    core.print_to_stdstream = forwarder.note
    try:
        with ray_in_log():
            yield
    finally:
        dispatcher.remove_handler("vlray")
    # Skipped after an exception: Ray would print messages about the tasks that it cancels.
    if not restores:
        return
    for name, print_logs in printing:
        dispatcher.add_handler(name, print_logs)
    core.print_to_stdstream = print_notes


_CRASH = re.compile(
    r"\*\*\* SIG[A-Z]+ received|Fatal Python error: |Unhandled error \(suppress with"
)
"""Beginning of a stack dump, which the handlers of Ray's core and of Python print."""


class _Forwarder:
    """Logs batches of lines, as Ray's dispatcher passes them."""

    def __init__(self, print_notes: Callable[..., None] | None = None) -> None:
        self.print_notes = print_notes  # Ray's own function, to be restored
        self._logged: set[str] = set()
        self._crashed: set[int] = set()  # process ids

    def handle(self, batch: dict[str, Any]) -> None:
        """Log the lines of a worker."""
        # The raylet and the autoscaler also write here; they have names instead of process ids.
        if str(batch.get("pid")).isdigit():
            for line in batch.get("lines", ()):
                if line.strip() and HARMLESS not in line:
                    self._log(line, batch)

    def note(self, batch: dict[str, Any], ignore_prefix: bool = False) -> None:
        """Log a note of the raylet or the autoscaler, which has no process id."""
        for line in batch.get("lines", ()):
            to_log_file(logging.INFO, f"{batch.get('pid')}: {line}")

    def _log(self, line: str, batch: dict[str, Any]) -> None:
        """Log a worker's line at the line's level, unless the same message was logged before."""
        source: dict[str, Any] = {"process": int(batch["pid"]), "node_ip": batch.get("ip")}
        source |= {name: batch[name] for name in ("actor_name", "task_name") if batch.get(name)}
        line = without_colors(line)
        parsed = parse_json(line) or _parse_text(line)
        worker = source | (parsed or {"levelname": "INFO", "message": line})
        message = worker["message"]
        if message in self._logged:
            return
        if len(self._logged) < REMEMBERED_LINES:
            self._logged.add(message)
        if _CRASH.search(line):
            self._crashed.add(worker["process"])
        is_dump = worker["process"] in self._crashed or is_core_line(line)
        level = logging.getLevelNamesMapping().get(worker["levelname"], logging.INFO)
        args = "pid %s on %s: %s", worker["process"], worker["node_ip"], message
        extra = {WORKER: worker, FILE_ONLY: parsed is None and is_dump}
        logging.getLogger("vlray.worker").log(level, *args, extra=extra)


def _parse_text(line: str) -> dict[str, Any] | None:
    """Split a text line into level and message; return None for printed lines without a level."""
    match = _TEXT.fullmatch(line)
    return match.groupdict() if match and match["levelname"] in _LEVELS else None
