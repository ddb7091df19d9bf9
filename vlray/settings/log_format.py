"""How a log is written: as text, or as JSON whose names are those of Ray's own JSON logs."""

from __future__ import annotations

import json
import logging
from typing import Any, Literal

LogFormat = Literal["text", "json"]

WORKER = "worker"
"""Attribute of a record that a worker began: what the worker said of it, by the names below."""


class JsonFormatter(logging.Formatter):
    """Writes each record as an object of JSON on a line of its own.

    Its names are ``asctime``, ``levelname``, ``message``, ``name`` (of the logger), ``filename``,
    ``lineno``, ``process``, ``timestamp_ns``, where there is an error ``exc_text``, and what
    belongs to all records alike. What a worker said keeps its own time and place, and has
    ``node_ip`` and Ray's ``job_id``, ``worker_id``, ``node_id``, ``actor_id``, ``task_id``,
    ``task_name``, ``actor_name`` besides, as far as they are known.
    """

    def __init__(self, **about: str) -> None:
        """Take what belongs to all records, by name."""
        super().__init__()
        self._about = about

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        line: dict[str, Any] = {
            "asctime": self.formatTime(record),
            "levelname": record.levelname,
            "message": record.getMessage(),
            "name": record.name,
            "filename": record.filename,
            "lineno": record.lineno,
            "process": record.process,
            "timestamp_ns": round(record.created * 1e9),
        }
        if record.exc_info:
            line["exc_text"] = self.formatException(record.exc_info)
        return json.dumps(line | self._about | getattr(record, WORKER, {}), ensure_ascii=False)


def parse_json(line: str) -> dict[str, Any] | None:
    """Read a line that `JsonFormatter` wrote; None: it is no such line."""
    if not line.startswith('{"asctime":'):
        return None
    try:
        said: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return said if {"levelname", "message"} <= said.keys() else None
