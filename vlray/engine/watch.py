"""What a training leaves to be looked at while it runs: figures, curves, progress, a summary."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from vlray.config.training import WatchSection
from vlray.engine.curves import draw
from vlray.engine.metrics import RayMetrics, in_ray
from vlray.engine.progress import Progress
from vlray.engine.summary import write_summary
from vlray.engine.trackers import Tracker, check, open_trackers
from vlray.runs.metrics import METRICS, Record, metrics_of, to_line

__all__ = ["Watch", "check"]

CURVES = "curves.png"
SUMMARY = "summary.md"
SECONDS_BETWEEN_CURVES = 60.0

log = logging.getLogger("vlray.engine")


class Watch:
    """Keeps the figures of a run; the first worker has one, in a ``with`` block.

    Into the run folder go ``metrics.jsonl`` (a record a line), ``curves.png``, TensorBoard's files
    and, at the end, ``summary.md``. Whatever of it was left by an interrupted start in the same
    folder is replaced by the history up to the checkpoint that the run goes on from.

    Attributes:
        history: All records so far (`vlray.runs.metrics.Record`), plain data that belongs into
            checkpoints: the curves of a resumed run begin where the first run began.
    """

    def __init__(
        self,
        folder: Path,
        options: WatchSection,
        *,
        steps: int,
        title: str,
        history: Sequence[Record] = (),
    ) -> None:
        """Begin.

        Args:
            folder: The run's; made where it is missing.
            options: Who else gets the figures.
            steps: Those of the whole training.
            title: The run's name, above the curves and in trackers' lists.
            history: Of an earlier run that this one goes on with.

        Raises:
            ImportError: A package that ``options`` asks for is missing; see `check`.
            ValueError: MLflow or Weights & Biases takes no runs.
            OSError: The folder cannot be written.
        """
        check(options)
        folder.mkdir(parents=True, exist_ok=True)
        self.history: list[Record] = list(history)
        self._folder, self._title = folder, title
        self._began = time.monotonic()
        self._drawn = self._began
        self._closed = False
        self._trackers: list[Tracker] = list(open_trackers(folder, options, title, history))
        self._ray = RayMetrics(folder) if in_ray() else None
        self._trackers += [self._ray] if self._ray else []
        self._file: IO[str] = (folder / METRICS).open("w", encoding="utf-8")
        self._file.writelines(map(to_line, self.history))
        self._file.flush()
        done = max((record["step"] for record in self.history), default=0)
        self._progress = Progress(steps, done)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close a run that did not come to its own `close`: the curves are whole, however."""
        self._end()

    def progress(self, step: int, loss: float, lr: float, examples: int) -> None:
        """Show how far it is, after each step; this costs microseconds.

        Args:
            step: Number of the step that was done, from 1.
            loss: Its loss, a number on the CPU.
            lr: Its learning rate.
            examples: How many examples the step was of, those of all workers together.
        """
        self._progress.to(step, loss, lr, examples)
        if self._ray:
            self._ray.progress(step, loss, lr, examples)

    def step(self, step: int, values: dict[str, float]) -> None:
        """Keep the figures of the steps since the last time.

        Args:
            step: Number of the last of them.
            values: ``loss``, its parts (``loss/mlm``), ``lr``, ``examples_per_s``, ``waited``
                (share of the time that was spent waiting for data), ``epoch`` and what else.
        """
        self._progress.epoch = values.get("epoch", math.nan)
        self._keep(step, "train", values)

    def evaluated(self, step: int, values: dict[str, float], *, best: bool = False) -> None:
        """Keep what an evaluation gave, and draw the curves anew (once a minute at most).

        Args:
            step: Steps done before it.
            values: Figures by name; the first is the one that the best is told by.
            best: Whether no evaluation before was better.
        """
        self._keep(step, "valid", values, **({"best": True} if best else {}))
        said = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.info("step %s, evaluated: %s%s", f"{step:,}", said, " (best so far)" if best else "")
        if time.monotonic() - self._drawn >= SECONDS_BETWEEN_CURVES:
            self._draw()

    def close(self, summary: dict[str, Any]) -> None:
        """End it: draw the curves and write the summary.

        Args:
            summary: What the run was, by name (``data``, ``model``, ``parameters``); the figures
                of the history are added.
        """
        self._end()
        seconds = time.monotonic() - self._began
        write_summary(self._folder / SUMMARY, self._title, summary, self.history, seconds)

    def _keep(self, step: int, kind: str, values: dict[str, float], **about: bool) -> None:
        record: Record = {"step": step, "time": time.time(), "kind": kind, **about}
        record |= {name: float(value) for name, value in values.items()}
        self.history.append(record)
        self._file.write(to_line(record))
        self._file.flush()
        for tracker in tuple(self._trackers):
            try:
                tracker.add(record)
            except Exception as error:  # a server that is gone is no reason to lose a training
                self._give_up(tracker, error)

    def _end(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._progress.close()
        self._file.close()
        for tracker in tuple(self._trackers):
            try:
                tracker.close()
            except Exception as error:  # as above
                self._give_up(tracker, error)
        self._draw()

    def _give_up(self, tracker: Tracker, error: Exception) -> None:
        self._trackers.remove(tracker)
        log.warning(
            "%s takes no more figures (%s: %s); %s has all of them",
            tracker.name,
            type(error).__name__,
            error,
            self._folder / METRICS,
        )

    def _draw(self) -> None:
        if any(metrics_of(record) for record in self.history):
            draw(self._folder / CURVES, self.history, self._title)
            self._drawn = time.monotonic()
