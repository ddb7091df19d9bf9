"""Log formats: text, or JSON with the key names of Ray's own JSON logs."""

from __future__ import annotations

import json
import logging
from typing import Any, Literal

from vlray.settings.secrets import redact

LogFormat = Literal["text", "json"]

WORKER = "worker"
"""Attribute of log records from a worker: a dict of JSON fields that override the driver's."""

FILE_ONLY = "is_for_file"
"""Attribute of log records that the console shows only with ``-v`` or as JSON."""

DETAIL = {FILE_ONLY: True}
"""Argument ``extra`` of messages that are details: the console shows one line of what starts."""


class JsonFormatter(logging.Formatter):
    """Formatter that writes each record as one line of JSON.

    The keys are ``asctime``, ``levelname``, ``message``, ``name`` (of the logger), ``filename``,
    ``lineno``, ``process``, ``timestamp_ns``, ``exc_text`` if there is an exception, and the
    constant fields from the constructor. Records from a worker have the worker's time and source
    line. They also have ``node_ip`` and, where available, Ray's ``job_id``, ``worker_id``,
    ``node_id``, ``actor_id``, ``task_id``, ``task_name`` and ``actor_name``.
    """

    def __init__(self, **constants: str) -> None:
        """Store the fields that every record gets.

        Args:
            constants: Names and values of the fields, such as ``project`` and ``run``.
        """
        super().__init__()
        self._constants = constants

    def format(self, record: logging.LogRecord) -> str:
        """Return one record as a line of JSON."""
        line: dict[str, object] = {
            "asctime": self.formatTime(record),
            "levelname": record.levelname,
            "message": redact(record.getMessage()),
            "name": record.name,
            "filename": record.filename,
            "lineno": record.lineno,
            "process": record.process,
            "timestamp_ns": round(record.created * 1e9),
        }
        if record.exc_info:
            line["exc_text"] = redact(self.formatException(record.exc_info))
        line |= self._constants | getattr(record, WORKER, {})
        return json.dumps(line, ensure_ascii=False)


def parse_json(line: str) -> dict[str, Any] | None:
    """Parse a line that `JsonFormatter` wrote; return None for any other line."""
    # `JsonFormatter` writes asctime first, so other lines need no parsing.
    if not line.startswith('{"asctime":'):
        return None
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return record if {"levelname", "message"} <= record.keys() else None
