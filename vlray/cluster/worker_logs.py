"""Forwarding of output from Ray tasks and actors to the run's log."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from vlray.cluster.console import HARMLESS, ray_in_log, without_colors
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
    ids |= {"task_id": context.get_task_id(), "task_name": context.get_task_name()}
    ids |= {"actor_name": context.get_actor_name()}
    return {name: value for name, value in ids.items() if value}


# Workers log the same lines mostly while they start. The limit bounds memory if a detector logs
# many different lines.
REMEMBERED_LINES = 1_000


@contextmanager
def forwarded() -> Iterator[None]:
    """Redirect the output of tasks and actors to the logger ``vlray.worker``.

    The output then appears in the run's log, and vlray's messages in it also on the console, while
    Ray's own printing is off. Identical lines from several workers are logged once. What Ray itself
    writes goes to the log, too; see `ray_in_log`.
    """
    # Private in Ray 2.60, which has no public hook for workers' output. If the import fails,
    # the messages are only in Ray's own log files.
    try:
        from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher
    except ImportError:
        yield
        return
    logged: set[str] = set()

    def handle(batch: dict[str, Any]) -> None:
        # The raylet and the autoscaler also write here; they have names instead of process ids.
        if str(batch.get("pid")).isdigit():
            for line in batch.get("lines", ()):
                if line.strip() and HARMLESS not in line:
                    _log(line, batch, logged)

    printing = [pair for pair in dispatcher.handlers if pair[0] == "ray_print_logs"]
    dispatcher.remove_handler("ray_print_logs")
    dispatcher.add_handler("vlray", handle)
    try:
        with ray_in_log():
            yield
    finally:
        dispatcher.remove_handler("vlray")
    # Skipped after an exception: Ray would print messages about the tasks that it cancels.
    for name, print_logs in printing:
        dispatcher.add_handler(name, print_logs)


def _log(line: str, batch: dict[str, Any], logged: set[str]) -> None:
    """Log a worker's line at the line's level, unless the same message was logged before.

    Lines that are not messages of vlray, such as Ray's stack dumps, go to the log file only.
    """
    source: dict[str, Any] = {"process": int(batch["pid"]), "node_ip": batch.get("ip")}
    source |= {name: batch[name] for name in ("actor_name", "task_name") if batch.get(name)}
    line = without_colors(line)
    parsed = parse_json(line) or _parse_text(line)
    worker = source | (parsed or {"levelname": "INFO", "message": line})
    message = worker["message"]
    if message in logged:
        return
    if len(logged) < REMEMBERED_LINES:
        logged.add(message)
    level = logging.getLevelNamesMapping().get(worker["levelname"], logging.INFO)
    args = "pid %s on %s: %s", worker["process"], worker["node_ip"], message
    extra = {WORKER: worker} | ({} if parsed else {FILE_ONLY: True})
    logging.getLogger("vlray.worker").log(level, *args, extra=extra)


def _parse_text(line: str) -> dict[str, Any] | None:
    """Split a text line into level and message; return None for a line that was printed."""
    match = _TEXT.fullmatch(line)
    return match.groupdict() if match and match["levelname"] in _LEVELS else None
