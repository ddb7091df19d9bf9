"""An object whose calls end its process, in as many ways as images do to a detector's."""

from __future__ import annotations

import os
import signal
import time


class Unruly:
    """Counts its calls, and misbehaves on request."""

    def __init__(self, name: str) -> None:
        if name == "broken":
            raise RuntimeError("no such weights")
        self.name = name
        self.calls = 0

    def count(self) -> int:
        self.calls += 1
        return self.calls

    def abort(self) -> None:
        os.abort()

    def killed(self, counter: str, times: int) -> int:
        """Die as if the system had killed the process, the first few times."""
        with open(counter, "a+b") as file:  # noqa: PTH123 - one line
            file.write(b".")
            calls = file.tell()
        if calls <= times:
            os.kill(os.getpid(), signal.SIGKILL)
        return calls

    def hang(self) -> None:
        time.sleep(1000)

    def leave(self) -> None:
        raise SystemExit(3)

    def eat(self) -> None:
        kept = []
        for _ in range(1000):
            kept.append(b"x" * (1 << 24))
            time.sleep(0.02)
