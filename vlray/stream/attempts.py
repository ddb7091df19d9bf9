"""Calls of a detector on the images of a shard, repeated and divided until the culprit is alone."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from vlray.cluster.journal import DEATHS, ClusterJournal, Journal
from vlray.regions.batch import RegionBatch
from vlray.settings.wording import counted
from vlray.stream.detector import ChildEndedError, LoadedDetector, SeparateDetector
from vlray.stream.rows import ImageRow

LOADING_S = 3600.0  # time limit for loading a detector, which may download its weights

Results = list[RegionBatch | Exception]

log = logging.getLogger("vlray.stream")


@dataclass(frozen=True)
class Attempts:
    """Detection in images, any of which may raise an error or end the detector's process.

    Attributes:
        journal: Journal of the run.
        work: Name of the shard in the journal.
        image_timeout: Time limit of the detector for one image, seconds.
        limited: Returns a context that ends this process after some seconds.
        done: Called with rows whose images are no longer needed.
    """

    journal: Journal | ClusterJournal
    work: str
    image_timeout: float
    limited: Callable[[float], AbstractContextManager[None]]
    done: Callable[[list[ImageRow]], None]

    def detect(self, rows: list[ImageRow], detector: LoadedDetector | SeparateDetector) -> Results:
        """Return the regions of each row, or the exception that its image raised."""
        results: dict[int, RegionBatch | Exception] = {}
        for batch in _batches(rows, detector.batch_size):
            for row, result in zip(batch, self._watched(batch, detector), strict=True):
                results[id(row)] = result
            self.journal.progress(self.work, len(batch))
            self.done(batch)
        return [results[id(row)] for row in rows]

    def _watched(
        self, batch: list[ImageRow], detector: LoadedDetector | SeparateDetector
    ) -> Results:
        """Detect regions in a batch, unless it has ended the process around an isolated detector.

        Such a batch is divided; an image that is alone fails.
        """
        if not isinstance(detector, SeparateDetector):
            return self._attempt(batch, detector)
        work = f"detect {batch[0]['image_id']} and {len(batch) - 1} more"
        deaths = self.journal.begin(work)
        if deaths < DEATHS:
            results = self._attempt(batch, detector)
        elif len(batch) > 1:
            results = [result for row in batch for result in self._watched([row], detector)]
        else:
            reason = f"the detector's process, and the one around it, ended {deaths} times on it"
            results = [ChildEndedError(reason)]
        self.journal.end(work)
        return results

    def _attempt(
        self, batch: list[ImageRow], detector: LoadedDetector | SeparateDetector
    ) -> Results:
        """Detect regions in a batch; if this raises, retry the batch, then each image separately.

        The retry uses the same batch, so that a transient error does not change the features.
        A single image needs the least memory, and shows which image causes the error.
        """
        for attempt in range(2):
            try:
                with self.limited(self.image_timeout * len(batch) + _child_s(detector)):
                    return list(detector(batch))
            except Exception as error:
                log.warning(
                    "the detector raised an exception on %s: %r",
                    counted(len(batch), "image"),
                    error,
                )
                has_ended = isinstance(error, ChildEndedError)
                if len(batch) == 1 and (attempt or has_ended):
                    return [error]
                if has_ended:
                    break
                free_memory()
        return [result for row in batch for result in self._attempt([row], detector)]


def _child_s(detector: LoadedDetector | SeparateDetector) -> float:
    """Return the time that a child process may add: its own limit comes first."""
    return LOADING_S if isinstance(detector, SeparateDetector) else 0.0


def _batches(rows: list[ImageRow], batch_size: int) -> Iterator[list[ImageRow]]:
    """Yield batches of equal-sized images, because padding could change the features."""
    groups: dict[tuple[int, ...], list[ImageRow]] = {}
    for row in rows:
        groups.setdefault(row["image"].shape, []).append(row)
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def free_memory() -> None:
    """Release the memory that torch caches on the GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
