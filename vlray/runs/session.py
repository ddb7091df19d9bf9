"""One policy for every command: its signals, its run folder, its last words, its exit status.

====== ======== ==================================================================================
Status Run      What happened
====== ======== ==================================================================================
0      finished The work is done, or there was nothing to do.
1      failed   The work broke: a bug, a full disk, too little memory, lost workers, an error that
                a worker or a detector raised, no result, a limit that was not reached.
2      failed   The user's mistake: wrong options, a missing file or module, data of another form.
                A run that was refused before it did anything leaves no folder.
130    stopped  Ctrl-C or SIGTERM, also while modules are still being imported.
====== ======== ==================================================================================

`ValueError`, `OSError` and `ImportError` are the user's mistakes where this process raises them,
and failures where a worker of Ray does. Every other error is a failure. Its traceback is in the log
of the run and never on the console, where the last line says what to do now.
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

if TYPE_CHECKING:
    from vlray.runs.folder import RunFolder
    from vlray.settings.base import Command

# Nothing heavy is imported here: Ctrl-C is handled from the first import on.

DONE, FAILED, REFUSED, STOPPED = 0, 1, 2, 130
"""Exit statuses of every command."""

AGAIN = "run the same command again"

_STATES = {DONE: "finished", STOPPED: "stopped"}
_DISK = {errno.ENOSPC, errno.EDQUOT}
_MACHINE = _DISK | {errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
"""Errors of the operating system that no option of the command mends."""

log = logging.getLogger("vlray")


class Failed(Exception):  # noqa: N818 - it is a result, such as a limit that is not reached
    """The work came to its end without a usable result; its text is the command's last word."""


class Session:
    """A command's run: a ``with`` block around its imports and its work.

    Leaving the block with an error ends the process by `SystemExit`, with the status above.
    """

    def __init__(self, command: str, again: str = AGAIN) -> None:
        """Name the command.

        Args:
            command: Its name, such as ``extract``.
            again: What to do after a run that was stopped or failed; empty: nothing is lost, and
                a stop is silent.
        """
        self.command = command
        self.folder: RunFolder | None = None
        self._again = again
        self._signal = ""
        self._is_ending = False
        self._handlers: dict[signal.Signals, Any] = {}

    def open(self, config: Command) -> RunFolder:
        """Make the run's folder and start its log; both are closed with the session.

        Raises:
            OSError: The folder cannot be made.
        """
        from vlray.runs.folder import open_run

        if self._signal:  # what was being imported has swallowed the interrupt
            raise KeyboardInterrupt
        self.folder = open_run(config, self.command)
        return self.folder

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if handler is not signal.SIG_IGN:  # as of a job in the background of a script
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
        # itself by SIGINT, whatever the exit status; another exec() of a string resets that.
        exec("")
        status, words = self._judge(error or _flush())
        if words:
            self._say(status, words, error)
        if self.folder:
            self.folder.close(_STATES.get(status, "failed"), is_refused=status == REFUSED)
        if not self._signal:  # otherwise the next one ends the process at once
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
        if error or status:
            raise SystemExit(status) from None

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._is_ending:
            if self._signal:  # whatever is taken down still, such as Ray, takes too long
                os._exit(STOPPED)
            return
        self._signal = signal.Signals(number).name
        raise KeyboardInterrupt

    def _judge(self, error: BaseException | None) -> tuple[int, str]:
        """Return the exit status and the last words for what the command raised."""
        if error is None:
            return DONE, ""
        if self._signal or isinstance(error, KeyboardInterrupt):
            said = str(error) if isinstance(error, KeyboardInterrupt) else ""
            return STOPPED, said or self._stopped(self._signal)
        if isinstance(error, SystemExit):
            return self._judge_exit(error.code)
        if isinstance(error, BrokenPipeError) and not self.folder:  # `| head` has seen enough
            _drop_stdout()
            return FAILED, ""
        name = f"vlray {self.command}"
        if isinstance(error, Failed):
            return FAILED, f"{name}: {error}"
        if is_mistake(error):
            return REFUSED, "\n".join(_refusal(name, error))
        cause = raised_in_worker(error)
        advice = self._again or AGAIN
        if any(_numbers(one) & _DISK for one in _chain(cause)):
            advice = f"make room on the disk; {advice}"
        where = f"\nThe traceback is in {self._trace(error)}"
        return FAILED, f"{name} failed: {_in_words(cause)}{where}\n{advice}"

    def _stopped(self, name: str) -> str:
        how = " (SIGTERM)" if name == "SIGTERM" else ""
        return f"stopped{how}; {self._again}" if self._again else ""

    def _judge_exit(self, code: Any) -> tuple[int, str]:
        """Return status and last words for a `SystemExit` of something that the command called."""
        if code == signal.SIGTERM:  # the handler that Ray has while it starts
            return STOPPED, self._stopped("SIGTERM")
        if code is None or isinstance(code, int):
            return code or DONE, ""
        return FAILED, f"vlray {self.command}: {code}"

    def _say(self, status: int, words: str, error: BaseException | None) -> None:
        if self.folder:
            level = logging.WARNING if status == STOPPED else logging.ERROR
            log.log(level, "%s", words, exc_info=error if status != STOPPED else None)
        else:
            sys.stderr.write(f"{words}\n")

    def _trace(self, error: BaseException) -> str:
        """Return the file with the traceback; without a run's log it is a temporary one."""
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
            return f"no file: {reason}"


def is_mistake(error: BaseException) -> bool:
    """Return whether an error is a mistake of the user's, and no failure."""
    if _is_of_ray(error) or any(_numbers(one) & _MACHINE for one in _chain(error)):
        return False
    if isinstance(error, ImportError):
        return (error.name or "").partition(".")[0] != "vlray"
    return isinstance(error, ValueError | OSError)


def raised_in_worker(error: BaseException) -> BaseException:
    """Return what a task or an actor raised, without Ray's wrappers."""
    while _is_of_ray(error):
        inner = getattr(error, "cause", None) or next(iter(error.args), None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    return error


def _is_of_ray(error: BaseException) -> bool:
    """Return whether a class of Ray's is among the error's; Ray itself need not be imported."""
    return any(kind.__module__.partition(".")[0] == "ray" for kind in type(error).__mro__)


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return the error and those that led to it."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return chain


def _numbers(error: BaseException) -> set[int]:
    return {error.errno} if isinstance(error, OSError) and error.errno else set()


def _refusal(name: str, error: BaseException) -> list[str]:
    """Return the words for a mistake of the user's, one line or more."""
    if isinstance(error, ValueError):
        from vlray.settings.reader import UsageError

        if isinstance(error, UsageError):
            command = f"vlray {error.command.command}"
            return [*(f"{command}: {message}" for message in error.messages), error.usage]
    return [f"{name}: {error}"]


def _in_words(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return str(error) or "there is too little memory"
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _flush() -> OSError | None:
    """Write what was printed; return what makes that impossible, except a reader that left."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _drop_stdout()
        return None if isinstance(error, BrokenPipeError) else error
    return None


def _drop_stdout() -> None:
    """Let nothing more be written to standard output, so that the interpreter's end is quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
