"""Second stage: detect regions in decoded images, with one detector in each process."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import pyarrow as pa

from vlray.cluster.journal import DEATHS, ClusterJournal, Journal
from vlray.config.detector import DetectorSection
from vlray.detect.protocol import wide_columns
from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.schema import (
    FAILURES,
    FeatureDtype,
    Identity,
    regions_schema,
    to_table,
    with_tags,
)
from vlray.settings.environment import EnvironmentSection
from vlray.stream.attempts import LOADING_S, Attempts
from vlray.stream.detector import (
    ChildEndedError,
    ChildError,
    LoadedDetector,
    SeparateDetector,
    with_device,
)
from vlray.stream.device import DeviceError, free_memory
from vlray.stream.labels import provenance_of, write_labels
from vlray.stream.limits import time_limit
from vlray.stream.rows import DecodedShard, DetectedShard, ImageRow

# If the detector raises on all images of a shard with at least this many images, the detector is
# considered broken, and the run fails. Otherwise only the images fail.
BROKEN_FROM = 4

# After this many deaths of actors on a shard, or of one while it loads the detector, the run ends:
# no single image is to blame.
LAST_DEATHS = 20

UNLOADABLE = "the detector cannot be loaded"


def work_of(shard: int) -> str:
    """Return the name of a shard in the journal."""
    return f"shard {shard}"


@dataclass(frozen=True)
class DetectOptions:
    """Options of the detector in each process."""

    detector: DetectorSection
    dtype: FeatureDtype
    output: str
    identity: Identity
    threads: int
    env: EnvironmentSection | None = None
    """Log level and format; None: in the driver, whose logging stays as it is."""

    journal: ClusterJournal | None = None
    """Journal of the run on Ray; None: in the driver."""

    image_timeout: float = 600.0
    """Time limit of the detector for one image, seconds."""

    image_memory_gb: float = 0.0
    """Memory limit of a child process for one image, GiB. 0: half of the free memory."""

    is_separate: bool = False
    """Whether the detector always runs in a child process."""

    tags: bool = False
    """Whether the tables have the column ``tags``."""


class DetectShard:
    """Detect regions in the decoded images of shards. One thread calls all methods but the first.

    The instance has no state between shards: after a failure, a shard may run again in another
    process.
    """

    def __init__(self, options: DetectOptions, journal: Journal | ClusterJournal) -> None:
        """Set the options; `load` loads the detector."""
        self._options = options
        self.journal = journal
        self._detector: LoadedDetector | SeparateDetector | None = None
        self.is_separate = options.is_separate
        self._problem: _Problem | None = None

    def load(self, process: str = "") -> None:
        """Load the detector. If this fails, all shards have a problem instead of regions.

        An exception would reach the driver through several layers of Ray, with all their
        tracebacks.

        Args:
            process: Id of the actor, which stays the same when Ray restarts it.
        """
        self._options = replace(self._options, detector=with_device(self._options.detector))
        self._problem = self._load(f"load {process}")

    def _load(self, work: str) -> _Problem | None:
        """Load the detector, and return a description of the problem if this fails."""
        deaths = self.journal.begin(work)
        # A child that dies shows why; the actors may also have been killed for another reason.
        self.is_separate |= deaths >= DEATHS
        try:
            if deaths >= LAST_DEATHS:
                raise ChildEndedError(f"its process ended {deaths} times")
            with self._limited(LOADING_S):
                self._detector = self._open(separate=self.is_separate)
            info = self._detector.info
            self._schema = regions_schema(
                info.feature_dim,
                self._options.dtype,
                self._options.identity | provenance_of(info),
                wide_columns(info, self._options.detector),
            )
            self._names = info.obj_names
            write_labels(self._options.output, info)
        except (Exception, SystemExit) as error:
            return _problem(UNLOADABLE, error)
        finally:
            self.journal.end(work)
        return None

    def _open(self, *, separate: bool) -> LoadedDetector | SeparateDetector:
        options = self._options
        if not separate:
            return LoadedDetector(options.detector, options.threads, options.env)
        return SeparateDetector(
            options.detector,
            options.threads,
            options.env,
            seconds=options.image_timeout,
            memory_gib=options.image_memory_gb,
        )

    def _limited(self, seconds: float) -> contextlib.AbstractContextManager[None]:
        """Return a context that ends an actor of Ray after some time; the driver has no limit."""
        return time_limit(seconds) if self._options.journal else contextlib.nullcontext()

    def __call__(
        self, decoded: DecodedShard, done: Callable[[list[ImageRow]], None]
    ) -> DetectedShard:
        """Return the regions and failures of one shard, or the detector's problem.

        Args:
            decoded: The shard.
            done: Called with rows whose images are no longer needed.
        """
        if (refused := self.begin(decoded)) is not None:
            return refused
        (shard, _, _, deaths), rows = decoded
        good = [row for row in rows if row["image"] is not None]
        try:
            detector = self._detector_for(separate=self.is_separate or deaths >= DEATHS)
        except ChildError as error:
            return DetectedShard(shard, None, None, *_problem(UNLOADABLE, error))
        try:
            results = self._attempts(work_of(shard), done).detect(good, detector)
        except DeviceError as error:
            problem = _problem("the GPU can no longer be used; run the command again", error)
            return DetectedShard(shard, None, None, *problem)
        return self.finish(decoded, dict(zip(map(id, good), results, strict=True)))

    @property
    def batch_size(self) -> int:
        """Number of images of one size in a pass of the detector."""
        return self._detector.batch_size if self._detector is not None else 1

    def begin(self, decoded: DecodedShard) -> DetectedShard | None:
        """Record the images of a shard that could not be decoded; return why it cannot be done."""
        (shard, _, _, deaths), rows = decoded
        if self._problem:
            return DetectedShard(shard, None, None, *self._problem)
        if deaths >= LAST_DEATHS:
            text = f"shard {shard} ended its process {deaths} times, also with isolated images"
            return DetectedShard(shard, problem=text)
        self.journal.progress(work_of(shard), sum(row["image"] is None for row in rows))
        return None

    def batch(self, rows: list[ImageRow]) -> list[RegionBatch | Exception]:
        """Detect regions in images of one size, of any shards."""
        detector = self._detector_for(separate=self.is_separate)
        return self._attempts("", lambda rows: None).batch(rows, detector)

    def finish(
        self, decoded: DecodedShard, results: dict[int, RegionBatch | Exception]
    ) -> DetectedShard:
        """Return the tables of a shard, given the results by the id of their rows."""
        shard = decoded.task.shard
        errors = [result for result in results.values() if isinstance(result, Exception)]
        if len(errors) >= BROKEN_FROM and len(errors) == len(results):
            text = (
                f"the detector raised an exception on all {len(results)} images of shard {shard}, "
                "so the fault is in the detector"
            )
            return DetectedShard(shard, None, None, *_problem(text, errors[-1]))
        return self._tables(shard, decoded.rows, results)

    def _attempts(self, work: str, done: Callable[[list[ImageRow]], None]) -> Attempts:
        return Attempts(self.journal, work, self._options.image_timeout, self._limited, done)

    def _tables(
        self, shard: int, rows: list[ImageRow], results: dict[int, RegionBatch | Exception]
    ) -> DetectedShard:
        """Return the tables of the results, by the id of their rows, in the order of the shard."""
        complete, regions, failures = [], [], []
        for row in rows:
            result = results.get(id(row))
            if isinstance(result, RegionBatch):
                complete.append(row)
                regions.append(result)
            else:
                failures.append(row if result is None else row | _failure(result))
        failed = pa.Table.from_pylist(failures, schema=FAILURES)
        return DetectedShard(
            shard, self._table(complete, regions), parts.with_digests(failed, _digests(failures))
        )

    def _detector_for(self, *, separate: bool) -> LoadedDetector | SeparateDetector:
        """Return the detector in this process, or in a child process."""
        if self._detector is not None and isinstance(self._detector, SeparateDetector) != separate:
            # Two copies of the weights may not fit into the memory of the device.
            self.close()
            free_memory()
        if self._detector is None:
            with self._limited(LOADING_S):
                self._detector = self._open(separate=separate)
        return self._detector

    def close(self) -> None:
        """Release the detector, and end its child process."""
        if self._detector is not None:
            self._detector.close()
        self._detector = None

    def _table(self, rows: list[ImageRow], regions: list[RegionBatch]) -> pa.Table:
        if not rows:
            empty = self._schema.empty_table()
            return with_tags(empty, self._names) if self._options.tags else empty
        image_ids, paths, splits = (
            [row[name] for row in rows] for name in ("image_id", "path", "split")
        )
        table = to_table(RegionBatch.concat(regions), image_ids, paths, splits, self._schema)
        if self._options.tags:
            table = with_tags(table, self._names)
        return parts.with_digests(table, _digests(rows))


def _failure(error: Exception) -> dict[str, str]:
    """Return the columns of ``failures/`` for an image on which the detector raised.

    The next run tries these images again, but not those that ended a process, because this takes
    up to several times the time limit.
    """
    kind = error.kind if isinstance(error, ChildError) else type(error).__name__
    stage = "process" if isinstance(error, ChildEndedError) else "detect"
    return {"stage": stage, "error": kind, "reason": str(error) or repr(error)}


class _Problem(NamedTuple):
    """An error that ends the run."""

    text: str
    trace: str


def _problem(text: str, error: BaseException) -> _Problem:
    """Describe an error that ends the run, with its traceback."""
    kind = error.kind if isinstance(error, ChildError) else type(error).__name__
    trace = "".join(traceback.format_exception(error))
    return _Problem(f"{text}: {kind}: {str(error).strip()}", trace)


def _digests(rows: list[ImageRow]) -> list[str]:
    return [row.get("digest", "") for row in rows]
