"""Words of tasks and actors on their way into the run's log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def log_to_stderr() -> None:
    """Let this worker's vlray messages reach its standard error, where Ray picks them up.

    From there they go to the Ray dashboard, to the driver's console, and (`forwarded`) to the
    log of the run.
    """
    logger = logging.getLogger("vlray")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


@contextmanager
def forwarded() -> Iterator[None]:
    """While it lasts, write what tasks and actors print into the logger ``vlray.worker``."""
    # Semi-internal, hence guarded: without it the words are still in Ray's own logs.
    try:
        from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher
    except ImportError:
        yield
        return
    logger = logging.getLogger("vlray.worker")

    def handle(batch: dict[str, Any]) -> None:
        for line in batch.get("lines", ()):
            if line.strip():
                logger.info("pid %s on %s: %s", batch.get("pid"), batch.get("ip"), line)

    dispatcher.add_handler("vlray", handle)
    try:
        yield
    finally:
        dispatcher.remove_handler("vlray")
