"""The Ray Data pipeline: decode tasks feed detector actors, which feed write tasks."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import ray
import ray.data

from vlray.cluster.capacity import WRITE_CPUS, ResourcePlan, allocate, living_nodes
from vlray.cluster.connection import default_variables
from vlray.cluster.console import quiet_loggers
from vlray.cluster.journal import start_journal
from vlray.cluster.worker_logs import forwarded
from vlray.config.extract import ExtractConfig
from vlray.regions.schema import Identity
from vlray.regions.user_boxes import UserBoxes
from vlray.runs.folder import current_run
from vlray.settings.log_format import DETAIL
from vlray.stream.detect import DetectShard
from vlray.stream.metrics import ExtractMetrics
from vlray.stream.nodes import Watch, stall_limit
from vlray.stream.plan import ShardPlan, shard_tables
from vlray.stream.progress import ExtractProgress
from vlray.stream.stages import Stages, build_stages, images_of, selects_regions
from vlray.stream.write import ShardSummary

_LOG_LEVELS = {"ray.data": logging.WARNING, "ray.data._internal.progress": logging.ERROR}

_NO_USAGE = {"RAY_DATA_USAGE_DISABLED": "1"}
"""Ray Data otherwise starts a process that counts its operators for Ray's usage statistics."""

log = logging.getLogger("vlray.stream")


def shard_rows(
    config: ExtractConfig,
    images_root: str,
    identity: Identity,
    plan: ShardPlan,
    todo: np.ndarray,
    user_boxes: UserBoxes | None,
    progress: ExtractProgress,
) -> Iterator[ShardSummary]:
    """Run the shards on the connected cluster, and yield a summary of each, in any order.

    Args:
        config: All settings.
        images_root: Base of the plan's relative paths.
        identity: Identity of the output, which each file stores.
        plan: All images of the output, divided into shards.
        todo: Numbers of the shards to run.
        user_boxes: User boxes; None: the detector finds boxes.
        progress: Display, which also shows the images that are done inside shards.

    Raises:
        ValueError: The cluster cannot hold the requested actors.
        NodesLostError: The cluster has lost nodes, and the run stalls.
        StalledError: No image makes progress.
    """
    with (
        forwarded(restores=not current_run()),  # the API leaves Ray as it was
        quiet_loggers(_LOG_LEVELS),
        default_variables(_NO_USAGE),
    ):
        cluster = config.cluster
        if config.detector.device == "cpu" and cluster.gpus_per_actor < 0:
            cluster = cluster.model_copy(update={"gpus_per_actor": 0.0})  # it would hold them idle
        resources = allocate(cluster, living_nodes(), len(todo))
        log.info("loading detectors: %s", resources, extra=DETAIL)
        journal = start_journal()
        watch = Watch(resources, journal, stall_limit(config))
        metrics = ExtractMetrics(
            config.project, current_run(), int(plan.sizes()[todo].sum()), len(todo)
        )
        stages = build_stages(
            config,
            ray.put(images_of(plan, user_boxes)),
            images_root,
            identity,
            resources.threads,
            selects=selects_regions(config, user_boxes),
            journal=journal,
        )
        with ray.data.DataContext.current(_data_context(watch.callback, metrics.callback)):
            shards = ray.data.from_arrow(shard_tables(plan, todo))
            rows = _chain(shards, stages, resources).iter_rows()
        iterator = iter(rows)
        with progress.inside(journal.images):
            row = next(iterator, None)
            while row is not None:
                if row["problem"]:  # the run ends; see `vlray.stream.run`
                    yield row
                    return
                watch.moved()
                metrics.add(row)
                yield row
                row = next(iterator, None)
        journal.close()


def _chain(shards: ray.data.Dataset, stages: Stages, resources: ResourcePlan) -> ray.data.Dataset:
    """Chain the three stages: decode, detect, write."""
    one_shard = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
    return (
        shards.map_batches(stages.decode, num_cpus=resources.decode_cpus, **one_shard)
        .map_batches(
            DetectShard,
            fn_constructor_args=(stages.detect,),
            compute=ray.data.ActorPoolStrategy(size=resources.actors),
            num_cpus=resources.cpus_per_actor,
            num_gpus=resources.gpus_per_actor,
            **one_shard,
        )
        .map_batches(stages.write, num_cpus=WRITE_CPUS, **one_shard)
    )


def _data_context(*callbacks: type) -> ray.data.DataContext:
    """Return Ray Data's settings for a run: no progress bars, and one block per shard."""
    context = ray.data.DataContext.get_current().copy()
    context.custom_execution_callback_classes = list(callbacks)
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # it counts only whole tasks; see `Watch`
    context.target_max_block_size = None  # otherwise Ray splits large shards
    context.raise_original_map_exception = True
    return context
