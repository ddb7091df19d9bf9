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


# What workers say alike is what they say at their start; a chatty detector fills no memory.
REMEMBERED_LINES = 1_000


@contextmanager
def forwarded() -> Iterator[None]:
    """While it lasts, what tasks and actors print goes to the logger ``vlray.worker``.

    So it is in the run's log and, once, on the console: Ray's own printing rests. What several
    workers say in the same words is written once.
    """
    # Semi-internal, hence guarded: without it the words are still in Ray's own logs.
    try:
        from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher
    except ImportError:
        yield
        return
    logger = logging.getLogger("vlray.worker")

    said: set[str] = set()

    def handle(batch: dict[str, Any]) -> None:
        # The raylet and the autoscaler speak here too, under their names.
        if str(batch.get("pid")).isdigit():
            for line in filter(str.strip, batch.get("lines", ())):
                if line not in said:
                    if len(said) < REMEMBERED_LINES:
                        said.add(line)
                    logger.info("pid %s on %s: %s", batch["pid"], batch.get("ip"), line)

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
