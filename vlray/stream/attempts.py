"""Calls of a detector on the images of a shard, repeated and divided until the culprit is alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from vlray.cluster.journal import DEATHS, ClusterJournal, Journal
from vlray.regions.batch import RegionBatch
from vlray.settings.wording import counted
from vlray.stream.detector import ChildEndedError, LoadedDetector, SeparateDetector
from vlray.stream.device import DeviceError, is_out_of_memory
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
        for batch in _batches(rows, detector):
            for row, result in zip(batch, self._watched(batch, detector), strict=True):
                results[id(row)] = result
            self.journal.progress(self.work, len(batch))
            self.done(batch)
        return [results[id(row)] for row in rows]

    def batch(self, rows: list[ImageRow], detector: LoadedDetector | SeparateDetector) -> Results:
        """Return the regions of images of one size, or the exceptions that they raised."""
        return self._watched(rows, detector)

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

        The retry uses the same batch, so that a transient error does not change the features. Only
        if the GPU has too little memory, batches become smaller from then on.
        A single image needs the least memory, and shows which image causes the error.
        """
        for attempt in range(2):
            results = self._once(batch, detector)
            if not isinstance(results, Exception):
                return results
            has_ended = isinstance(results, ChildEndedError)
            if len(batch) == 1 and (attempt or has_ended):
                return [results]
            if has_ended:
                break
            if is_out_of_memory(results) and len(batch) > 1:
                detector.batch_size = len(batch) // 2
                log.warning(
                    "the GPU has too little memory for %d images of %s pixels at once; from now on "
                    "this detector gets %d (--detector.batch-size)",
                    len(batch),
                    "x".join(map(str, batch[0]["image"].shape[1::-1])),
                    detector.batch_size,
                )
                return [
                    r for half in _batches(batch, detector) for r in self._attempt(half, detector)
                ]
        return [result for row in batch for result in self._attempt([row], detector)]

    def _once(
        self, batch: list[ImageRow], detector: LoadedDetector | SeparateDetector
    ) -> Results | Exception:
        """Return the regions of a batch, or the detector's exception.

        If the GPU can no longer be used, an actor ends itself: Ray then restarts it, and repeats
        the shard.

        Raises:
            DeviceError: The GPU can no longer be used, and this process is no actor.
        """
        try:
            with self.limited(self.image_timeout * len(batch) + _child_s(detector)):
                return list(detector(batch))
        except DeviceError as error:
            log.error("the GPU can no longer be used by this process: %s", error)
            if isinstance(self.journal, ClusterJournal):
                os._exit(1)
            raise
        except Exception as error:
            log.warning(
                "the detector raised an exception on %s: %r", counted(len(batch), "image"), error
            )
            return error


def _child_s(detector: LoadedDetector | SeparateDetector) -> float:
    """Return the time that a child process may add: its own limit comes first."""
    return LOADING_S if isinstance(detector, SeparateDetector) else 0.0


def _batches(
    rows: list[ImageRow], detector: LoadedDetector | SeparateDetector
) -> Iterator[list[ImageRow]]:
    """Yield batches of equal-sized images, because padding could change the features.

    The detector's batch size may become smaller in between.
    """
    groups: dict[tuple[int, ...], list[ImageRow]] = {}
    for row in rows:
        groups.setdefault(row["image"].shape, []).append(row)
    for group in groups.values():
        start = 0
        while start < len(group):
            batch = group[start : start + detector.batch_size]
            yield batch
            start += len(batch)
