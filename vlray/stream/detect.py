"""Second stage: detect regions in decoded images, in Ray actors with one detector each."""

from __future__ import annotations

import contextlib
import logging
import traceback
from dataclasses import dataclass, replace

import pyarrow as pa

from vlray.cluster.journal import DEATHS, ClusterJournal, Journal
from vlray.cluster.worker_logs import log_to_stderr
from vlray.config.detector import DetectorSection
from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.schema import FAILURES, FeatureDtype, Identity, regions_schema, to_table
from vlray.settings.environment import EnvironmentSection
from vlray.stream.attempts import LOADING_S, Attempts
from vlray.stream.block import ImageRow, image_rows, pack, unpack
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

# If the detector raises on all images of a shard with at least this many images, the detector is
# considered broken, and the run fails. Otherwise only the images fail.
BROKEN_FROM = 4

# After this many deaths of actors on a shard, or of one while it loads the detector, the run ends:
# no single image is to blame.
LAST_DEATHS = 20

log = logging.getLogger("vlray.stream")


@dataclass(frozen=True)
class DetectOptions:
    """Options that each detector actor receives."""

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


class DetectShard:
    """Detect regions in a shard's decoded images.

    Ray creates one instance per actor, so that each actor loads the weights once. The instance has
    no state between shards: after a failure, Ray may rerun a shard on another actor.

    An image may end the actor: by a crash in native code, by the time limit, or because the system
    runs out of memory. Ray then repeats the shard. After `DEATHS` such deaths, the detector runs in
    a child process, so that the image which ends the child is found and fails alone. Such an image
    may end the actor around the child, too; after `DEATHS` of these deaths, it fails.
    """

    def __init__(self, options: DetectOptions, journal: Journal | None = None) -> None:
        """Load the detector. If this raises, all shards have a problem instead of regions.

        An exception would reach the driver through several layers of Ray, with all their
        tracebacks.

        Args:
            options: Options of the actor.
            journal: Journal of a run without Ray.
        """
        if options.env is not None:
            log_to_stderr(options.env)
        self._options = replace(options, detector=with_device(options.detector))
        self._journal = options.journal or journal or Journal()
        self._detector: LoadedDetector | SeparateDetector | None = None
        self._is_separate = options.is_separate
        self._problem = self._load()

    def _load(self) -> dict[str, str] | None:
        """Load the detector, and return a description of the problem if this fails."""
        work = f"load {_actor_id()}" if self._options.journal else "load"
        deaths = self._journal.begin(work)
        # A child that dies shows why; the actors may also have been killed for another reason.
        self._is_separate |= deaths >= DEATHS
        try:
            if deaths >= LAST_DEATHS:
                raise ChildEndedError(f"its process ended {deaths} times")
            with self._limited(LOADING_S):
                self._detector = self._open(separate=self._is_separate)
            info = self._detector.info
            self._schema = regions_schema(
                info.feature_dim, self._options.dtype, self._options.identity | provenance_of(info)
            )
            write_labels(self._options.output, info)
        except (Exception, SystemExit) as error:
            return _problem("the detector cannot be loaded", error)
        finally:
            self._journal.end(work)
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

    def __call__(self, row: pa.Table) -> pa.Table:
        """Return the regions and failures of one shard, packed; or the detector's problem."""
        shard, tables = unpack(row)
        if self._problem:
            return pack(shard, problem=pa.Table.from_pylist([self._problem]))
        work = f"shard {shard}"
        deaths = self._journal.begin(work)
        rows = list(image_rows(tables["images"]))
        good = [row for row in rows if row["image"] is not None]
        self._journal.progress(work, len(rows) - len(good))
        if deaths >= LAST_DEATHS:
            text = f"shard {shard} ended its process {deaths} times, also with isolated images"
            return pack(shard, problem=pa.Table.from_pylist([{"problem": text, "trace": ""}]))
        try:
            detector = self._detector_for(shard, deaths)
        except ChildError as error:
            problem = _problem("the detector cannot be loaded", error)
            return pack(shard, problem=pa.Table.from_pylist([problem]))
        attempts = Attempts(self._journal, work, self._options.image_timeout, self._limited)
        try:
            results = attempts.detect(good, detector)
        except DeviceError as error:
            problem = _problem("the GPU can no longer be used; run the command again", error)
            return pack(shard, problem=pa.Table.from_pylist([problem]))
        self._journal.end(work)
        errors = [result for result in results if isinstance(result, Exception)]
        if len(errors) >= BROKEN_FROM and len(errors) == len(results):
            text = (
                f"the detector raised an exception on all {len(good)} images of shard {shard}, so "
                "the fault is in the detector"
            )
            return pack(shard, problem=pa.Table.from_pylist([_problem(text, errors[-1])]))
        return self._pack(shard, rows, dict(zip(map(id, good), results, strict=True)))

    def _pack(
        self, shard: int, rows: list[ImageRow], results: dict[int, RegionBatch | Exception]
    ) -> pa.Table:
        """Pack the results, by the id of their rows, in the order of the shard."""
        complete, regions, failures = [], [], []
        for row in rows:
            result = results.get(id(row))
            if isinstance(result, RegionBatch):
                complete.append(row)
                regions.append(result)
            else:
                failures.append(row if result is None else row | _failure(result))
        return pack(
            shard,
            regions=self._table(complete, regions),
            failures=parts.with_digests(
                pa.Table.from_pylist(failures, schema=FAILURES), _digests(failures)
            ),
        )

    def _detector_for(self, shard: int, deaths: int) -> LoadedDetector | SeparateDetector:
        """Return the detector in this process, or in a child process after several deaths."""
        separate = self._is_separate or deaths >= DEATHS
        if deaths >= DEATHS:
            log.warning(
                "shard %d: the detector's process ended %d times; its images now run in a process "
                "of their own",
                shard,
                deaths,
            )
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
            return self._schema.empty_table()
        image_ids, paths, splits = (
            [row[name] for row in rows] for name in ("image_id", "path", "split")
        )
        table = to_table(RegionBatch.concat(regions), image_ids, paths, splits, self._schema)
        return parts.with_digests(table, _digests(rows))


def _failure(error: Exception) -> dict[str, str]:
    """Return the columns of ``failures/`` for an image on which the detector raised.

    The next run tries these images again, but not those that ended a process, because this takes
    up to several times the time limit.
    """
    kind = error.kind if isinstance(error, ChildError) else type(error).__name__
    stage = "process" if isinstance(error, ChildEndedError) else "detect"
    return {"stage": stage, "error": kind, "reason": str(error) or repr(error)}


def _problem(text: str, error: BaseException) -> dict[str, str]:
    """Describe an error that ends the run, with its traceback."""
    kind = error.kind if isinstance(error, ChildError) else type(error).__name__
    trace = "".join(traceback.format_exception(error))
    return {"problem": f"{text}: {kind}: {str(error).strip()}", "trace": trace}


def _actor_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_actor_id())


def _digests(rows: list[ImageRow]) -> list[str]:
    return [row["digest"] or "" for row in rows]
