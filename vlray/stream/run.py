"""The extraction: list images, update the plan, and run the missing shards."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs

from vlray.cluster.connection import connect
from vlray.config.extract import ExtractConfig
from vlray.detect.load import check_modes, check_weights, settled
from vlray.images.listing import Listing
from vlray.images.sources import known
from vlray.regions import parts
from vlray.regions.claim import claim
from vlray.regions.lock import only_writer
from vlray.regions.schema import Identity
from vlray.regions.user_boxes import UserBoxes
from vlray.settings.wording import counted
from vlray.storage import files
from vlray.stream import plan as plans
from vlray.stream.changes import Changes, ImagesChangedError, clear, compare, confirm
from vlray.stream.failures import count_failures, first_failure
from vlray.stream.identity import defaults, identity_of
from vlray.stream.inputs import list_inputs, read_user_boxes
from vlray.stream.local import MARKER, local_rows, runs_locally
from vlray.stream.notices import first_names, report
from vlray.stream.plan import ShardPlan
from vlray.stream.progress import ExtractProgress
from vlray.stream.write import ShardSummary
from vlray.tasks.image_sets import absolute, find_images, resolve_path

log = logging.getLogger("vlray.stream")


@dataclass
class ExtractResult:
    """Counts and duration of one run."""

    output: str
    planned: int  # all images of the output
    changed: int = 0  # images whose files changed since an earlier run
    images: int = 0  # images with regions written by this run
    regions: int = 0
    failed: int = 0  # images that failed; rows of failures/
    raised: int = 0  # failed images on which the detector raised
    failed_before: int = 0  # images that failed in earlier runs, if there is nothing to do
    failure: str = ""  # path of an image that failed, and the reason
    short: int = 0  # images with fewer regions than min_boxes
    bytes: int = 0
    unlisted: tuple[str, ...] = ()  # folders that cannot be listed; their images are missing
    damaged: tuple[str, ...] = ()  # archives; their images behind the damage are missing
    seconds: float = 0.0  # duration of the pipeline, including its start

    def add(self, row: ShardSummary) -> None:
        """Add the counts of a written shard.

        Args:
            row: The summary from `WriteShard`.
        """
        for name in ("images", "regions", "failed", "raised", "short", "bytes"):
            setattr(self, name, getattr(self, name) + row[name])


class DetectorError(RuntimeError):
    """Raised when the detector cannot be loaded, or fails on all images of a shard."""

    advice = (
        "correct the detector or its options, and run the command again; written files are kept"
    )
    """Advice of the session; the same command alone would fail again."""


class _Trace(Exception):  # noqa: N818 - only the text of another process's traceback
    def __str__(self) -> str:
        return f"\n{self.args[0]}"


PROBLEM_LINES = 3  # of a detector's message on the console; the log has the rest


def _shortened(text: str) -> str:
    lines = text.splitlines()
    more = ["..."] if len(lines) > PROBLEM_LINES else []
    return "\n".join(lines[:PROBLEM_LINES] + more)


def extract(config: ExtractConfig) -> ExtractResult:
    """Bring an output up to date with its images.

    Complete shards stay untouched. If all shards are complete, Ray is not started.

    Raises:
        ValueError: The settings, the images and the output do not match.
        DetectorError: The detector cannot be loaded, or fails on all images of a shard.
    """
    config = _resolved(config)
    if config.cluster.decode_cpus:
        log.warning(
            "cluster.decode_cpus has no effect, because detectors decode their own images; remove "
            "it, and set cluster.cpus_per_actor instead if a detector on a GPU waits for images"
        )
    check_modes(config.detector, boxes_given=bool(config.boxes))
    fs, root = files.resolve(config.output.path)
    listing = list_inputs(config)
    user_boxes = read_user_boxes(config, listing) if config.boxes else None
    identity = identity_of(config, listing, user_boxes)
    check_weights(config.detector)
    with only_writer(fs, root, config.output.path):
        claim(fs, root, config.output.path, identity, defaults(config))
        # The lock is held, so any temporary file is left from a killed writer.
        for folder in (parts.REGIONS, parts.FAILURES, parts.PLAN):
            files.remove_temporaries(fs, files.join(root, folder))
        known.store(fs, files.join(root, parts.PLAN, known.FILE), listing.members)
        plan, changes = plan_images(config, fs, root, listing)
        todo = plans.shards_to_do(fs, root, plan, retry_failures=config.output.retry_failures)
        images = int(plan.sizes()[todo].sum())
        log.info(
            "%s: %s (%s new, %s changed), %s to process in %s",
            config.output.path,
            counted(plan.table.num_rows, "image"),
            f"{changes.new.num_rows:,}",
            f"{changes.changed.num_rows:,}",
            f"{images:,}",
            counted(len(todo), "shard"),
        )
        result = ExtractResult(
            config.output.path,
            plan.table.num_rows,
            changed=changes.changed.num_rows,
            unlisted=listing.unreadable,
            damaged=tuple(archive for archive, _ in listing.damaged),
        )
        if not len(todo):
            result.failed_before, result.failure = count_failures(fs, root)
        else:
            locally = runs_locally(config, images, fs, root)
            _run_shards(config, listing.root, identity, plan, todo, user_boxes, result, locally)
            files.remove(fs, files.join(root, MARKER))  # of an earlier run that was cut off
            if result.failed:
                result.failure = first_failure(fs, root, set(todo.tolist()))
        return result


def plan_images(
    config: ExtractConfig, fs: pafs.FileSystem, root: str, listing: Listing
) -> tuple[ShardPlan, Changes]:
    """Add new and changed images to the plan, and remove changed ones from existing parts.

    Args:
        config: All settings.
        fs: Filesystem of the output.
        root: Path of the output.
        listing: The current images.

    Raises:
        ImagesChangedError: Images have changed, and ``output.on_changed`` is ``refuse``.
    """
    plan, done = plans.load(fs, root), plans.done_shards(fs, root)
    changes = compare(plan, listing.table, done, every_split=not config.split)
    changes = confirm(fs, root, listing.root, plan, changes)
    report(plan, changes, done, config.output.path, listing.root)
    if changes.changed.num_rows and config.output.on_changed == "refuse":
        raise ImagesChangedError(
            f"{counted(changes.changed.num_rows, 'image')}, such as "
            f"{first_names(changes.changed['path'])}, changed after being extracted to "
            f"{config.output.path}; pass another output folder, or extract the changed images "
            "again with --on-changed redo"
        )
    images = pa.concat_tables([changes.new, changes.changed, changes.moved])
    rows = plans.extend(plan, images, config.output.shard_size)
    # Store the plan before removing old rows; `vlray.stream.changes` explains the order.
    plan = plans.store(fs, root, plan, pa.concat_tables([changes.updated, rows]))
    clear(fs, root, plan, done, config.output.compression)
    return plan, changes


def _resolved(config: ExtractConfig) -> ExtractConfig:
    """Resolve images and detector, and make local paths absolute.

    Relative paths would fail, because tasks and actors run in other folders than the driver.
    """
    data_dir = config.env.data_dir
    return config.model_copy(
        update={
            "boxes": config.boxes and absolute(resolve_path(config.boxes, data_dir)),
            "images": find_images(config.images, config.data, data_dir),
            "output": config.output.model_copy(update={"path": absolute(config.output.path)}),
            "detector": settled(config.detector),
        }
    )


def _run_shards(
    config: ExtractConfig,
    images_root: str,
    identity: Identity,
    plan: ShardPlan,
    todo: np.ndarray,
    user_boxes: UserBoxes | None,
    result: ExtractResult,
    locally: bool,
) -> None:
    """Run the shards, and add each one to ``result``."""
    run = local_rows if locally else _rows_of_cluster
    began = time.monotonic()
    total = int(plan.sizes()[todo].sum())
    # An error must close the pipeline, too: the traceback would keep it open.
    with (
        ExtractProgress(total, config.cluster.progress) as progress,
        closing(run(config, images_root, identity, plan, todo, user_boxes, progress)) as written,
    ):
        for row in written:
            if row["problem"]:
                raise DetectorError(_shortened(row["problem"])) from _Trace(row["trace"])
            result.add(row)
            progress.add(row["images"] + row["failed"], row["failed"])
    result.seconds = time.monotonic() - began
    if (got := result.images + result.failed) != total:
        raise AssertionError(f"processed {got} of {total} images; please report this bug")


def _rows_of_cluster(
    config: ExtractConfig,
    images_root: str,
    identity: Identity,
    plan: ShardPlan,
    todo: np.ndarray,
    user_boxes: UserBoxes | None,
    progress: ExtractProgress,
) -> Generator[ShardSummary]:
    """Run the shards on Ray, and yield a summary of each; continue if nodes are lost."""
    # Ray's start mostly waits, and importing Ray Data takes more than a second.
    with ThreadPoolExecutor(1) as pool:
        importing = pool.submit(importlib.import_module, "vlray.stream.pipeline")
        connect(config.cluster)
        importing.result()
    from vlray.stream.nodes import NodesLostError
    from vlray.stream.pipeline import shard_rows

    while len(todo):
        done: list[int] = []
        try:
            for row in shard_rows(config, images_root, identity, plan, todo, user_boxes, progress):
                done.append(row["shard"])
                yield row
            return
        except NodesLostError as error:
            log.warning("%s; continuing on the remaining nodes", error)
            config = _on_remaining_nodes(config, error.plan.gpus_per_actor)
            # A shard that was written but not reported is simply written again.
            todo = np.setdiff1d(todo, done)


def _on_remaining_nodes(config: ExtractConfig, gpus_per_actor: float) -> ExtractConfig:
    """Return settings with as many actors as fit on the remaining nodes, or on new ones.

    Actors still get GPUs, because the last digits of the features differ on CPUs.
    """
    from vlray.cluster.growth import RayCluster, wait_limit

    fewer = {"gpus_per_actor": gpus_per_actor}
    if not wait_limit(config.cluster, RayCluster(config.cluster.label_selector)):
        fewer["actors"] = 0  # otherwise other nodes may replace the lost ones
    return config.model_copy(update={"cluster": config.cluster.model_copy(update=fewer)})
