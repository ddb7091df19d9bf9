"""Progress display: a bar on a terminal, or a log line at intervals."""

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
    """Progress bar, or timer for progress lines. Use a ``with`` block, or call `close`.

    Log messages of vlray are written above the bar.

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
        """Start the display.

        Args:
            total: Final position.
            unit: Name of the unit, with a leading space; ``B`` for bytes.
            seconds: Interval between two lines.
            style: ``auto``: a bar on a terminal; lines elsewhere and for JSON logs.
            done: Initial position.
            form: tqdm's ``bar_format``; None: tqdm's default.
        """
        if style == "auto":
            style = "bar" if sys.stderr.isatty() and not _is_json() else "lines"
        if any(console.level > logging.INFO for console in _consoles()):
            style = "none"  # -q
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
        """Close the bar and release the console."""
        self._bar.close()
        for handler in _consoles():
            handler.removeFilter(self._filter)

    @property
    def rate(self) -> float:
        """Recent speed in units per second; 0 if unknown or without a bar."""
        return float(self._bar.format_dict["rate"] or 0) if self.style == "bar" else 0.0

    def skip(self, position: int) -> None:
        """Move the start to the position that an earlier run reached."""
        # tqdm does not count `initial` as progress when it computes the speed.
        self._bar.initial = self._bar.n = position
        self._bar.refresh()

    def to(self, position: int, postfix: str) -> None:
        """Move the bar to a position and show ``postfix`` after it."""
        self._bar.set_postfix_str(postfix, refresh=False)
        self._bar.update(position - self._bar.n)

    def is_line_due(self, now: float, *, is_last: bool = False) -> bool:
        """Return whether a progress line is due; if so, restart the interval.

        Args:
            now: Current time in seconds, from ``time.monotonic``.
            is_last: Whether this is the final line, which is always due.
        """
        is_due = is_last or now - self._last_line >= self._seconds
        if is_due:
            self._last_line = now
        return is_due

    def say(self, log: logging.Logger, line: str) -> None:
        """Write a line to the log, and to the console unless the console shows the bar."""
        log.info("%s", line, extra={_IN_BAR: True})


class _AboveBar(logging.Filter):
    """Filter that clears the bar before a console message; tqdm redraws the bar below."""

    def __init__(self, bar: tqdm[Never]) -> None:
        super().__init__()
        self._bar = bar

    def filter(self, record: logging.LogRecord) -> bool:
        # The bar already shows what such a line says; the log file has no such filter.
        if hasattr(record, _IN_BAR):
            return False
        self._bar.clear()
        return True


def _consoles() -> list[logging.Handler]:
    """Return the handlers of the logger ``vlray`` that write to the console."""
    # FileHandler is a subclass of StreamHandler.
    return [
        handler
        for handler in logging.getLogger("vlray").handlers
        if isinstance(handler, logging.StreamHandler)
        and not isinstance(handler, logging.FileHandler)
    ]


def _is_json() -> bool:
    return any(isinstance(handler.formatter, JsonFormatter) for handler in _consoles())
