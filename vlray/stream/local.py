"""Small extractions in this process, without Ray, whose start takes longer than the work."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from vlray.cluster.capacity import Node, allocate
from vlray.cluster.connection import is_cluster_configured
from vlray.cluster.journal import Journal
from vlray.config.cluster import ClusterSection
from vlray.config.extract import ExtractConfig
from vlray.regions.schema import Identity
from vlray.regions.user_boxes import UserBoxes
from vlray.settings.log_format import DETAIL
from vlray.storage import files
from vlray.stream.plan import ShardPlan, shard_tables
from vlray.stream.progress import ExtractProgress
from vlray.stream.shard import ShardWork
from vlray.stream.stages import build_stages, images_of, selects_regions
from vlray.stream.write import ShardSummary

# Measured on two CPU cores: until the first shard is done, Ray takes about 7 s longer.
RAY_START_S = 7.0
SECONDS_PER_IMAGE = {"lite": 0.15, "vg-caffe": 8.0, "vg-pbua": 8.0, "vinvl": 10.0}  # on one core
UNKNOWN_S = 2.0  # of a detector that is not in the table

MARKER = ".in-process"
"""File in an output that exists while a run in this process writes to the output. If a crash of the
detector or the decoder ends the run, the file stays. The next run then uses Ray, which survives
such a crash, or child processes if it must run without Ray."""

STUCK_S = 60.0  # without a completed shard, an interrupted run counts as stuck

log = logging.getLogger("vlray.stream")


def runs_locally(config: ExtractConfig, images: int, fs: pafs.FileSystem, root: str) -> bool:
    """Return whether to run in this process: if it is requested, or if the work is small.

    Args:
        config: All settings.
        images: Number of images to process.
        fs: Filesystem of the output.
        root: Path of the output.
    """
    options = config.cluster
    if options.address:
        return options.address == "none"
    no_resources = {"progress", "image_timeout", "image_memory_gb", "decode_cpus"}
    if options.model_dump(exclude=no_resources) != ClusterSection().model_dump(
        exclude=no_resources
    ):
        return False  # resources of a cluster are requested
    if is_cluster_configured():
        return False
    if MARKER in files.list_names(fs, root):
        log.info("the last run on this output crashed; using Ray, which isolates the detector")
        return False
    cost = SECONDS_PER_IMAGE.get(config.detector.name, UNKNOWN_S)
    cores = os.cpu_count() or 1
    saved = images * cost * (1 - 1 / cores)  # by detectors that run in parallel
    return saved <= RAY_START_S


def local_rows(
    config: ExtractConfig,
    images_root: str,
    identity: Identity,
    plan: ShardPlan,
    todo: np.ndarray,
    user_boxes: UserBoxes | None,
    progress: ExtractProgress,
) -> Generator[ShardSummary]:
    """Run the shards in this process, and yield a summary of each written shard, in order.

    Arguments and results are those of `vlray.stream.pipeline.shard_rows`, and so are the bytes of
    the output. Threads decode the next shard while the detector works.
    """
    here = [Node(float(os.cpu_count() or 1), 0.0)]
    resources = allocate(config.cluster.model_copy(update={"gpus_per_actor": 0.0}), here, len(todo))
    fs, root = files.resolve(config.output.path)
    has_crashed = MARKER in files.list_names(fs, root)
    stages = build_stages(
        config,
        images_of(plan, user_boxes),
        images_root,
        identity,
        resources,
        selects=selects_regions(config, user_boxes),
        is_isolated=has_crashed,
    )
    if has_crashed:
        log.info(
            "the last run on this output crashed; its images are now decoded, and the detector "
            "runs, in processes of their own"
        )
    log.info(
        "running in this process with %s compute threads, without Ray (--cluster.address local "
        "starts Ray)",
        resources.threads,
        extra=DETAIL,
    )
    journal = Journal()
    with (
        _same_threads(),
        ThreadPoolExecutor(1) as pool,
        _marked(fs, root) as moved,
        closing(ShardWork(stages, journal)) as work,
        progress.inside(journal.images),
    ):
        first, *others = shard_tables(plan, todo)
        decoded = pool.submit(work.decode, work.begin(first))
        work.load()  # while the first shard is decoded
        for following in [*others, None]:
            current = decoded.result()
            if following is not None:
                decoded = pool.submit(work.decode, work.begin(following))
            yield work.write(work.detect(current))
            moved()


@contextmanager
def _marked(fs: pafs.FileSystem, root: str) -> Iterator[Callable[[], None]]:
    """Keep `MARKER` while the block runs, and also afterwards if an interrupt ended a stuck run."""
    path = files.join(root, MARKER)
    files.write_atomic(fs, path, pa.py_buffer(b""))
    last = time.monotonic()

    def moved() -> None:
        nonlocal last
        last = time.monotonic()

    try:
        yield moved
    except BaseException as error:
        if isinstance(error, Exception) or time.monotonic() - last < STUCK_S:
            files.remove(fs, path)
        raise
    files.remove(fs, path)


@contextmanager
def _same_threads() -> Iterator[None]:
    """Restore torch's number of threads, which the detector sets, for the caller of the API."""
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    try:
        yield
    finally:
        if before is not None:
            sys.modules["torch"].set_num_threads(before)
