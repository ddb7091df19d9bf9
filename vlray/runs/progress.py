"""How far something is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType
from typing import Literal, Never, Self

from tqdm import tqdm

from vlray.settings.log_format import JsonFormatter

Style = Literal["auto", "bar", "lines", "none"]

_IN_BAR = "is_in_bar"


class Bar:
    """Draws the bar, and says when a line is due; use it in a ``with`` block, or close it.

    What vlray logs meanwhile is written above the bar.

    Attributes:
        style: ``bar``, ``lines`` or ``none``.
    """

    def __init__(
        self,
        total: int,
        unit: str,
        seconds: float,
        style: Style = "auto",
        done: int = 0,
        form: str | None = None,
    ) -> None:
        """Begin.

        Args:
            total: Where the end is.
            unit: Of what, with a space in front; ``B`` for bytes.
            seconds: Between two lines.
            style: ``auto``: a bar on a terminal, lines elsewhere and where the log is JSON.
            done: Where it begins.
            form: Of the bar, as tqdm's ``bar_format``; None: tqdm's own.
        """
        if style == "auto":
            style = "bar" if sys.stderr.isatty() and not _is_json() else "lines"
        self.style = style
        self._seconds = seconds
        self._last_line = time.monotonic()
        self._bar: tqdm[Never] = tqdm(
            total=total,
            initial=done,
            unit=unit,
            unit_scale=unit == "B",
            disable=style != "bar",
            smoothing=0.1,
            bar_format=form,
        )
        self._filter = _AboveBar(self._bar)
        if style == "bar":
            for handler in _consoles():
                handler.addFilter(self._filter)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the console to others."""
        self._bar.close()
        for handler in _consoles():
            handler.removeFilter(self._filter)

    @property
    def rate(self) -> float:
        """Units a second lately; 0 where it is not known, or there is no bar."""
        return float(self._bar.format_dict["rate"] or 0) if self.style == "bar" else 0.0

    def skip(self, position: int) -> None:
        """Go to where an earlier run had come."""
        self._bar.initial = self._bar.n = position
        self._bar.refresh()

    def to(self, position: int, postfix: str) -> None:
        """Come to a position, with some words on it."""
        self._bar.set_postfix_str(postfix, refresh=False)
        self._bar.update(position - self._bar.n)

    def is_line_due(self, now: float, *, is_last: bool = False) -> bool:
        """Say whether the last line is so long ago (or this the last one) that one is due.

        Args:
            now: Seconds, by ``time.monotonic``; kept as the time of a line that is due.
            is_last: Whether there will be no other.
        """
        is_due = is_last or now - self._last_line >= self._seconds
        if is_due:
            self._last_line = now
        return is_due

    def say(self, log: logging.Logger, line: str) -> None:
        """Write a line to the log, but not to a console where the bar says the same."""
        log.info("%s", line, extra={_IN_BAR: True})


class _AboveBar(logging.Filter):
    """Takes the bar off before a console writes a line; it is drawn again below it."""

    def __init__(self, bar: tqdm[Never]) -> None:
        super().__init__()
        self._bar = bar

    def filter(self, record: logging.LogRecord) -> bool:
        if hasattr(record, _IN_BAR):
            return False
        self._bar.clear()
        return True


def _consoles() -> list[logging.Handler]:
    """List the handlers of vlray's log that write to this process's console."""
    return [
        handler
        for handler in logging.getLogger("vlray").handlers
        if isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
    ]


def _is_json() -> bool:
    return any(isinstance(handler.formatter, JsonFormatter) for handler in _consoles())
