"""A child process for work that may crash, hang or exhaust the memory of its process."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

POLL_S = 0.05  # between two looks at the child's memory
KILLS = 3  # a child may have been killed because other processes needed the memory
LOADING_S = 900.0  # shortest time limit of the construction
_GRACE_S = 60.0  # after this, a child whose parent was killed ends itself
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ChildError(Exception):
    """Raised when a call in a child process fails.

    Attributes:
        kind: Name of the exception's class in the child; of this class if the child ended.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class ChildEndedError(ChildError):
    """Raised when a call has crashed its child process, or exceeded its time or memory.

    Attributes:
        is_killed: Whether SIGKILL or SIGTERM ended the child. Another process or the system sent
            the signal, so the call itself may be harmless.
    """

    def __init__(self, reason: str, *, is_killed: bool = False) -> None:
        super().__init__("ProcessEnded", reason)
        self.is_killed = is_killed


class Expendable:
    """An object that lives in a child process, which is killed if a call exceeds a limit.

    After that, the next call starts another child. Arguments and results are pickled.
    """

    def __init__(
        self,
        factory: Callable[..., Any],
        *args: Any,
        seconds: float,
        memory_gib: float = 0.0,
    ) -> None:
        """Set the limits; the first call starts the child.

        Args:
            factory: Importable class or function that returns the object.
            args: Arguments of ``factory``.
            seconds: Limit of one unit of work (``units`` of `call`).
            memory_gib: Limit of the memory by which the child may grow after it has constructed
                the object, GiB. 0: half of the machine's memory that is free then.
        """
        self._made_by = (factory, args)
        self._seconds = seconds
        self._memory_gib = memory_gib
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any]
        self._alive = -1  # the child ends itself when this end of a pipe closes
        self._limit = 0  # bytes of resident memory; 0: none

    def call(self, name: str, *args: Any, units: int = 1) -> Any:
        """Return the result of a method of the object, or the value of an attribute.

        Raises:
            ChildEndedError: The child crashed, or exceeded its time or memory; or it was killed
                `KILLS` times in a row, each time before it had a result.
            ChildError: The method raised.
        """
        for kills in range(1, KILLS + 1):
            try:
                return self._call(name, args, units)
            except ChildEndedError as error:
                if kills == KILLS or not error.is_killed:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _call(self, name: str, args: tuple[Any, ...], units: int) -> Any:
        if self._process is None:
            self._start()
            try:
                self._exchange(self._made_by, max(LOADING_S, self._seconds))
            except ChildError:
                self.close()
                raise
            self._limit = self._memory_limit()
        limit = self._seconds * units
        return self._exchange((name, args, limit + _GRACE_S), limit)

    def close(self) -> None:
        """Kill the child, if there is one."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._connection.close()
        os.close(self._alive)
        self._process, self._limit = None, 0

    def _start(self) -> None:
        self._connection, theirs = Pipe()
        watched, self._alive = os.pipe()
        # The child imports the same modules as this process, which may be a worker of Ray.
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(watched)],
                pass_fds=(theirs.fileno(), watched),
                env=os.environ | {"PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
            )
        os.close(watched)

    def _exchange(self, request: Any, seconds: float) -> Any:
        try:
            self._connection.send(request)
            reply = self._wait(seconds)
        except (EOFError, OSError):
            assert self._process is not None
            status = self._process.wait()
            self.close()
            is_killed = -status in (signal.SIGKILL, signal.SIGTERM)
            raise ChildEndedError(_describe(status), is_killed=is_killed) from None
        except BaseException:  # a limit, or Ctrl-C: the child is still at work
            self.close()
            raise
        kind, value = pickle.loads(reply)
        if kind:
            raise ChildError(kind, value)
        return value

    def _wait(self, seconds: float) -> bytes:
        end = time.monotonic() + seconds
        while not self._connection.poll(POLL_S):
            if time.monotonic() > end:
                raise ChildEndedError(f"no result within {seconds:g} s (cluster.image_timeout)")
            if self._limit and (used := self._resident()) > self._limit:
                raise ChildEndedError(
                    f"the process used {used / 2**30:.1f} GiB of memory, more than its limit of "
                    f"{self._limit / 2**30:.1f} GiB (cluster.image_memory_gb)"
                )
        return self._connection.recv_bytes()

    def _memory_limit(self) -> int:
        allowed = int(self._memory_gib * 2**30) or available() // 2
        return self._resident() + allowed if allowed else 0

    def _resident(self) -> int:
        """Return the child's resident memory in bytes; 0 where the system does not report it."""
        assert self._process is not None
        try:
            return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError):
            return 0


def available() -> int:
    """Return the free memory of this machine or container in bytes; 0: unknown."""
    free: list[int] = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        free.append(int(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())  # "max": no limit
        free.append(limit - int((group / "memory.current").read_text()))
    return max(min(free, default=0), 0)


def _describe(status: int) -> str:
    if status >= 0:
        return f"the process ended with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = "; the system may have been out of memory" if -status == signal.SIGKILL else ""
    return f"the process was ended by {name}{hint}"


def _serve(connection: Connection[Any, Any], watched: int) -> None:
    """Construct the object, then answer calls until the parent closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    threading.Thread(target=_end_with_parent, args=(watched,), daemon=True).start()
    served: Any = None
    with contextlib.suppress(EOFError):
        factory, args = connection.recv()
        served = _answer(connection, lambda: factory(*args), reply=None)
        while True:
            name, args, seconds = connection.recv()
            # Python's own threads cannot run while native code holds the interpreter's lock.
            faulthandler.dump_traceback_later(seconds, exit=True)
            _answer(connection, lambda: _get(served, name, args))  # noqa: B023 - called at once
            faulthandler.cancel_dump_traceback_later()


_SAME = object()


def _answer(connection: Connection[Any, Any], work: Callable[[], Any], reply: Any = _SAME) -> Any:
    """Send the result of ``work``, or ``reply`` in its place, or the error."""
    result: Any = None
    try:
        result = work()
        answer = pickle.dumps(("", result if reply is _SAME else reply))
    except BaseException as error:  # a detector may call sys.exit
        answer = pickle.dumps((type(error).__name__, str(error) or repr(error)))
    connection.send_bytes(answer)
    return result


def _get(served: Any, name: str, args: tuple[Any, ...]) -> Any:
    value = getattr(served, name)
    return value(*args) if callable(value) else value


def _end_with_parent(watched: int) -> None:
    os.read(watched, 1)
    os._exit(1)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
