"""Logging of a training: metrics, curves, trackers, progress and a summary."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from vlray.config.training import WatchSection
from vlray.engine.curves import draw
from vlray.engine.metrics import RayMetrics, in_ray
from vlray.engine.progress import TrainingBar
from vlray.engine.summary import Fact, write_summary
from vlray.engine.trackers import Tracker, check, open_trackers
from vlray.runs.metrics import METRICS, Record, metrics_of, to_line

__all__ = ["Watch", "check"]

CURVES = "curves.png"
SUMMARY = "summary.md"
SECONDS_BETWEEN_CURVES = 60.0

log = logging.getLogger("vlray.engine")


class Watch:
    """Logs the metrics of a run; a context manager that only the first worker has.

    The run folder gets ``metrics.jsonl`` (one record per line), ``curves.png``, TensorBoard's files
    and, at the end, ``summary.md``. A restart in the same folder rewrites the files of the
    interrupted run, with its history up to the resumed checkpoint.

    Attributes:
        history: All records so far (`vlray.runs.metrics.Record`). Checkpoints contain them, so that
            the curves of a resumed run start at the first step.
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
        """Open the metrics file, the trackers and the progress bar.

        Args:
            folder: Folder of the run; created if it does not exist.
            options: Which trackers receive the metrics.
            steps: Total number of steps.
            title: Title of the curves, and name under which the trackers list the run.
            history: Records of the earlier run that this run resumes.

        Raises:
            ImportError: The package of a configured tracker is missing; see `check`.
            ValueError: MLflow or Weights & Biases failed to open the run.
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
        # Rewritten: records after the resumed checkpoint are of steps that run again.
        self._file: IO[str] = (folder / METRICS).open("w", encoding="utf-8")
        self._file.writelines(map(to_line, self.history))
        self._file.flush()
        done = max((record["step"] for record in self.history), default=0)
        self._progress = TrainingBar(steps, done)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files and trackers and draw the curves, unless `close` has done so."""
        self._end()

    def progress(self, step: int, loss: float, lr: float, examples: int) -> None:
        """Update the progress bar and Ray's gauges after a step.

        Args:
            step: Number of the completed step, from 1.
            loss: Loss of the step.
            lr: Learning rate of the step.
            examples: Number of examples in the step, over all workers.
        """
        self._progress.to(step, loss, lr, examples)
        if self._ray:
            self._ray.progress(step, loss, lr, examples)

    def step(self, step: int, values: dict[str, float]) -> None:
        """Log the training metrics after a step.

        Args:
            step: Number of the completed step, from 1.
            values: Metrics by name, such as ``loss``, its parts (``loss/mlm``), ``lr``,
                ``examples_per_s``, ``waited`` (share of time spent waiting for data) and
                ``epoch``.
        """
        self._progress.epoch = values.get("epoch", math.nan)
        self._record(step, "train", values)

    def evaluated(self, step: int, values: dict[str, float], *, best: bool = False) -> None:
        """Log the metrics of an evaluation, and redraw the curves at most once a minute.

        Args:
            step: Number of completed steps.
            values: Metrics by name; the first metric selects the best checkpoint.
            best: Whether this is the best evaluation so far.
        """
        self._record(step, "valid", values, **({"best": True} if best else {}))
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        log.info("step %s, evaluated: %s%s", f"{step:,}", metrics, " (best so far)" if best else "")
        if time.monotonic() - self._drawn >= SECONDS_BETWEEN_CURVES:
            self._draw()

    def close(self, summary: Mapping[str, Fact]) -> None:
        """Close the files and trackers, draw the curves and write the summary.

        Args:
            summary: Facts about the run by name, such as ``data`` or ``parameters``; metrics are
                added from the history.
        """
        self._end()
        seconds = time.monotonic() - self._began
        write_summary(self._folder / SUMMARY, self._title, summary, self.history, seconds)

    def _record(self, step: int, kind: str, values: dict[str, float], **about: bool) -> None:
        record: Record = {"step": step, "time": time.time(), "kind": kind, **about}
        record |= {name: float(value) for name, value in values.items()}
        self.history.append(record)
        self._file.write(to_line(record))
        # Flush each record: a search follows the file while the training runs.
        self._file.flush()
        # Iterate over a copy, because _drop() removes trackers.
        for tracker in tuple(self._trackers):
            try:
                tracker.add(record)
            except Exception as error:  # a lost server must not end the training
                self._drop(tracker, error)

    def _end(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._progress.close()
        self._file.close()
        for tracker in tuple(self._trackers):
            try:
                tracker.close()
            except Exception as error:  # as in _record
                self._drop(tracker, error)
        self._draw()

    def _drop(self, tracker: Tracker, error: Exception) -> None:
        self._trackers.remove(tracker)
        log.warning(
            "%s failed and gets no more metrics (%s: %s); all metrics are in %s",
            tracker.name,
            type(error).__name__,
            error,
            self._folder / METRICS,
        )

    def _draw(self) -> None:
        if any(metrics_of(record) for record in self.history):
            draw(self._folder / CURVES, self.history, self._title)
            self._drawn = time.monotonic()
