"""Words of tasks and actors on their way into the run's log."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import ray

from vlray.cluster.console import HARMLESS
from vlray.settings.environment import EnvironmentSection
from vlray.settings.log_format import WORKER, JsonFormatter, LogFormat, parse_json

_LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}
_TEXT = re.compile(r"(?P<levelname>[A-Z]+) (?P<message>.*)", re.DOTALL)


def log_to_stderr(options: EnvironmentSection) -> None:
    """Let this worker's vlray messages reach its standard error, where Ray picks them up.

    From there they go to the Ray dashboard, to the driver's console, and (`forwarded`) to the
    log of the run. A worker may do tasks of several runs, one after the other.

    Args:
        options: Of the run: how much is logged, and in which format.
    """
    logger = logging.getLogger("vlray")
    if not logger.handlers:
        logger.addHandler(_Stderr())
    for handler in logger.handlers:
        if isinstance(handler, _Stderr):
            handler.format_as(options.log_format)
            logger.setLevel(options.log_level.upper())


class _Stderr(logging.StreamHandler[TextIO]):
    """A worker's own handler."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def format_as(self, log_format: LogFormat) -> None:
        text = logging.Formatter("%(levelname)s %(message)s")
        self.setFormatter(_WorkerFormatter() if log_format == "json" else text)


class _WorkerFormatter(JsonFormatter):
    """Adds where in the cluster it is said, by the names of Ray's own JSON logs."""

    def format(self, record: logging.LogRecord) -> str:
        setattr(record, WORKER, _place())
        return super().format(record)


def _place() -> dict[str, str]:
    """Say which worker this is, and what it does just now."""
    if not ray.is_initialized():
        return {}
    here = ray.get_runtime_context()
    place = {"job_id": here.get_job_id(), "worker_id": here.get_worker_id()}
    place |= {"node_id": here.get_node_id(), "actor_id": here.get_actor_id()}
    place |= {"task_id": here.get_task_id(), "task_name": here.get_task_name()}
    place |= {"actor_name": here.get_actor_name()}
    return {name: value for name, value in place.items() if value}


# What workers say alike is what they say at their start; a chatty detector fills no memory.
REMEMBERED_LINES = 1_000


@contextmanager
def forwarded() -> Iterator[None]:
    """While it lasts, what tasks and actors print goes to the logger ``vlray.worker``.

    So it is in the run's log and, once, on the console: Ray's own printing rests. What several
    workers say in the same words is written once.
    """
    # Private in Ray 2.60, which has no public hook for workers' output; without it the messages
    # are still in Ray's own log files.
    try:
        from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher
    except ImportError:
        yield
        return
    said: set[str] = set()

    def handle(batch: dict[str, Any]) -> None:
        # The raylet and the autoscaler speak here too, under their names.
        if str(batch.get("pid")).isdigit():
            for line in batch.get("lines", ()):
                if line.strip() and HARMLESS not in line:
                    _log(line, batch, said)

    printing = [pair for pair in dispatcher.handlers if pair[0] == "ray_print_logs"]
    dispatcher.remove_handler("ray_print_logs")
    dispatcher.add_handler("vlray", handle)
    try:
        yield
    finally:
        dispatcher.remove_handler("vlray")
    # Only after a good end: otherwise Ray prints how it takes down what was stopped.
    for name, print_logs in printing:
        dispatcher.add_handler(name, print_logs)


def _log(line: str, batch: dict[str, Any], said: set[str]) -> None:
    """Log a line of a worker at the level that it has, unless it was said before."""
    there: dict[str, Any] = {"process": int(batch["pid"]), "node_ip": batch.get("ip")}
    there |= {name: batch[name] for name in ("actor_name", "task_name") if batch.get(name)}
    worker = there | (parse_json(line) or _parse_text(line))
    message = worker["message"]
    if message in said:
        return
    if len(said) < REMEMBERED_LINES:
        said.add(message)
    level = logging.getLevelNamesMapping().get(worker["levelname"], logging.INFO)
    words = "pid %s on %s: %s", worker["process"], worker["node_ip"], message
    logging.getLogger("vlray.worker").log(level, *words, extra={WORKER: worker})


def _parse_text(line: str) -> dict[str, Any]:
    """Tell the level of a message from its words; what was only printed has none of its own."""
    found = _TEXT.fullmatch(line)
    if found and found["levelname"] in _LEVELS:
        return found.groupdict()
    return {"levelname": "INFO", "message": line}
