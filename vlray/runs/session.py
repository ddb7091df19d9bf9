"""The session of a command: signals, run folder, final message and exit status.

====== ======== ==================================================================================
Status Run      Meaning
====== ======== ==================================================================================
0      finished The work is complete, or there was nothing to do.
1      failed   The work failed: a bug, a full disk, out of memory, lost workers, an exception in a
                worker or detector, no result, or a limit that was not reached.
2      failed   User error: invalid options, a missing file or module, data in the wrong format.
                A run that did nothing before the error leaves no folder.
130    stopped  Ctrl-C or SIGTERM, also during the imports.
====== ======== ==================================================================================

`ValueError`, `OSError` and `ImportError` are user errors if this process raises them, and failures
if a Ray worker does. Every other exception is a failure. Its traceback goes to the log of the run,
never to the console. The last line on the console says what to do next.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
import traceback
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from vlray.settings.secrets import printable, redact

if TYPE_CHECKING:
    from vlray.runs.folder import RunFolder
    from vlray.settings.base import Command

# Import nothing heavy here: the session handles Ctrl-C during the imports that follow.

DONE, FAILED, REFUSED, STOPPED = 0, 1, 2, 130
"""Exit statuses of every command."""

AGAIN = "run the same command again"

_STATES = {DONE: "finished", STOPPED: "stopped"}
_DISK = {errno.ENOSPC, errno.EDQUOT}
_MACHINE = _DISK | {errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
"""Errors of the operating system that no option of the command can fix."""

log = logging.getLogger("vlray")


class Failed(Exception):  # noqa: N818 - a result, such as a limit that was not reached
    """Raised when the work ends without a usable result; its text is the final message."""


class Session:
    """Context manager around the imports and the work of a command.

    If the block raises, the session raises `SystemExit` with a status from the table above.
    """

    def __init__(self, command: str, again: str = AGAIN) -> None:
        """Create the session of a command.

        Args:
            command: Name of the command, such as ``extract``.
            again: Advice after a stop or a failure, such as how to resume. Empty: a stop prints
                nothing, because nothing is lost.
        """
        self.command = command
        self.folder: RunFolder | None = None
        self._again = again
        self._signal = ""
        self._is_ending = False
        self._handlers: dict[signal.Signals, Any] = {}

    def open(self, config: Command) -> RunFolder:
        """Create the run's folder and start its log; the session closes both.

        Raises:
            OSError: The folder cannot be created.
        """
        from vlray.runs.folder import open_run

        if self._signal:  # a module that was being imported has caught the interrupt
            raise KeyboardInterrupt
        self.folder = open_run(config, self.command)
        return self.folder

    def __enter__(self) -> Self:
        # OpenMP reads this when torch is imported. By default, idle threads spin: on a busy
        # machine, a training step then costs up to twice the CPU time.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if handler is not signal.SIG_IGN:  # background jobs of a script ignore SIGINT
                    self._handlers[number] = handler or signal.SIG_DFL
                    signal.signal(number, self._interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_ending = True
        # After an interrupt inside exec() of a string (dataclasses at import), `python -m` kills
        # itself with SIGINT, whatever the exit status. Another exec() of a string resets this.
        exec("")
        status, message = self._judge(error or _flush())
        if message:
            self._report(status, message, error)
        if self.folder:
            self.folder.close(_STATES.get(status, "failed"), is_refused=status == REFUSED)
        if not self._signal:  # after a signal, the next one must end the process at once
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        if error or status:
            raise SystemExit(status) from None

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._is_ending:
            if self._signal:  # second signal: do not wait for shutdown, such as Ray's
                os._exit(STOPPED)
            return
        self._signal = signal.Signals(number).name
        raise KeyboardInterrupt

    def _judge(self, error: BaseException | None) -> tuple[int, str]:
        """Return the exit status and the final message for the command's exception, if any."""
        if error is None:
            return DONE, ""
        if self._signal or isinstance(error, KeyboardInterrupt):
            message = str(error) if isinstance(error, KeyboardInterrupt) else ""
            return STOPPED, message or self._stopped(self._signal)
        if isinstance(error, SystemExit):
            return self._judge_exit(error.code)
        if isinstance(error, BrokenPipeError) and not self.folder:  # such as a pipe to `head`
            _drop_stdout()
            return FAILED, ""
        name = f"vlray {self.command}"
        if isinstance(error, Failed):
            return FAILED, f"{name}: {error}"
        if is_mistake(error):
            return REFUSED, "\n".join(_refusal(name, error))
        cause = raised_in_worker(error)
        advice = getattr(cause, "advice", "") or self._again or AGAIN
        if any(_numbers(one) & _DISK for one in _chain(cause)):
            advice = f"free disk space; {advice}"
        where = f"\nThe traceback is in {self._trace(error)}"
        return FAILED, f"{name} failed: {_describe(cause)}{where}\n{advice}"

    def _stopped(self, name: str) -> str:
        cause = " (SIGTERM)" if name == "SIGTERM" else ""
        return f"stopped{cause}; {self._again}" if self._again else ""

    def _judge_exit(self, code: object) -> tuple[int, str]:
        """Return the status and the message for a `SystemExit` that the command raised."""
        if code == signal.SIGTERM:  # from the handler that Ray installs while it starts
            return STOPPED, self._stopped("SIGTERM")
        if code is None or isinstance(code, int):
            return code or DONE, ""
        return FAILED, f"vlray {self.command}: {code}"

    def _report(self, status: int, message: str, error: BaseException | None) -> None:
        if self.folder:
            level = logging.WARNING if status == STOPPED else logging.ERROR
            log.log(level, "%s", message, exc_info=error if status != STOPPED else None)
        else:
            sys.stderr.write(f"{printable(redact(message))}\n")

    def _trace(self, error: BaseException) -> str:
        """Return the path of the file with the traceback: the run's log, else a temporary file."""
        if self.folder:
            return str(self.folder.log_path)
        import tempfile

        prefix = f"vlray-{self.command}-"
        try:
            with tempfile.NamedTemporaryFile(
                "w", prefix=prefix, suffix=".log", delete=False, encoding="utf-8"
            ) as file:
                file.writelines(traceback.format_exception(error))
                return file.name
        except OSError as reason:
            return f"no file, because no temporary file can be written: {reason}"


def is_mistake(error: BaseException) -> bool:
    """Return whether an exception is a user error and not a failure."""
    if _is_of_ray(error) or any(_numbers(one) & _MACHINE for one in _chain(error)):
        return False
    if isinstance(error, ImportError):
        return (error.name or "").partition(".")[0] != "vlray"
    return isinstance(error, ValueError | OSError)


def raised_in_worker(error: BaseException) -> BaseException:
    """Return the exception that a task or an actor raised, without Ray's wrappers."""
    while _is_of_ray(error):
        inner = getattr(error, "cause", None) or next(iter(error.args), None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    return error


def _is_of_ray(error: BaseException) -> bool:
    """Return whether an exception has a base class from Ray, without importing Ray."""
    return any(kind.__module__.partition(".")[0] == "ray" for kind in type(error).__mro__)


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an exception and its causes, the exception itself first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        # As in a traceback: the cause, else the context unless `raise ... from None` hides it.
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return chain


def _numbers(error: BaseException) -> set[int]:
    return {error.errno} if isinstance(error, OSError) and error.errno else set()


def _refusal(name: str, error: BaseException) -> list[str]:
    """Return the message for a user error as one or more lines."""
    if isinstance(error, ValueError):
        from vlray.settings.reader import UsageError

        if isinstance(error, UsageError):
            command = f"vlray {error.command.command}"
            return [*(f"{command}: {message}" for message in error.messages), error.usage]
    return [f"{name}: {error}"]


def _describe(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return str(error) or "out of memory"
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _flush() -> OSError | None:
    """Flush standard output; return any error except that of a pipe closed by its reader."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _drop_stdout()
        return None if isinstance(error, BrokenPipeError) else error
    return None


def _drop_stdout() -> None:
    """Redirect standard output to /dev/null, so that Python's exit prints no further error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
