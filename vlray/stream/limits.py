"""The time limit of work that native code may never finish."""

from __future__ import annotations

import contextlib
import faulthandler
import os
from collections.abc import Iterator


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End this process if the block takes longer; a thread of native code watches the time."""
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - Path.open would do the same
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
