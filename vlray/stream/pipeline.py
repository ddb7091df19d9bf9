"""The Ray Data pipeline: decode tasks feed detector actors, which feed write tasks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data

from vlray.cluster.capacity import WRITE_CPUS, ResourcePlan, allocate, living_nodes
from vlray.cluster.connection import connect
from vlray.cluster.console import quiet_loggers, without_harmless_line
from vlray.cluster.worker_logs import forwarded
from vlray.config.extract import ExtractConfig
from vlray.detect.load import resize_of
from vlray.regions.user_boxes import UserBoxes
from vlray.runs.folder import current_run
from vlray.stream.decode import DecodeShard
from vlray.stream.detect import DetectOptions, DetectShard
from vlray.stream.metrics import ExtractMetrics
from vlray.stream.nodes import Watch
from vlray.stream.plan import ShardPlan
from vlray.stream.write import WriteShard

# Ray's default is half an hour. A shard takes seconds to minutes, so no completed task in this time
# means that the pipeline hangs: an actor dies at every start, or resources never become free.
NO_PROGRESS_S = 900.0

_LOG_LEVELS = {"ray.data": logging.WARNING, "ray.data._internal.progress": logging.ERROR}

log = logging.getLogger("vlray.stream")


def shard_rows(
    config: ExtractConfig,
    images_root: str,
    identity: dict[str, Any],
    plan: ShardPlan,
    todo: np.ndarray,
    user_boxes: UserBoxes | None = None,
) -> Iterator[dict[str, Any]]:
    """Run the shards, and yield a summary of each written shard, in any order.

    Args:
        config: All settings.
        images_root: Base of the plan's relative paths.
        identity: Identity of the output, which each file stores.
        plan: All images of the output, divided into shards.
        todo: Numbers of the shards to run.
        user_boxes: User boxes; None: the detector finds boxes.

    Raises:
        ValueError: The cluster cannot hold the requested actors.
        NodesLostError: The cluster has lost nodes, and the run stalls.
    """
    resize = resize_of(config.detector)
    connect(config.cluster)
    with forwarded(), quiet_loggers(_LOG_LEVELS):
        resources = allocate(config.cluster, living_nodes(), len(todo))
        log.info("loading detectors: %s", resources)
        watch = Watch(resources)
        metrics = ExtractMetrics(
            config.project, current_run(), int(plan.sizes()[todo].sum()), len(todo)
        )
        images = plan.table.select(["image_id", "path", "split"])
        if user_boxes is not None:
            images = images.append_column("boxes", user_boxes.of(images["image_id"]))
        decode = DecodeShard(
            ray.put(images.combine_chunks()),
            images_root,
            config.images.max_pixels,
            resize,
            config.env,
        )
        with ray.data.DataContext.current(_data_context(watch.callback, metrics.callback)):
            shards = ray.data.from_arrow(_shard_tables(plan, todo))
            rows = _stages(shards, decode, config, identity, resources, user_boxes).iter_rows()
        iterator = iter(rows)
        with without_harmless_line():  # the line is printed while the actors start
            row = next(iterator, None)
        while row is not None:
            watch.moved()
            metrics.add(row)
            yield row
            row = next(iterator, None)


def _stages(
    shards: ray.data.Dataset,
    decode: DecodeShard,
    config: ExtractConfig,
    identity: dict[str, Any],
    resources: ResourcePlan,
    user_boxes: UserBoxes | None,
) -> ray.data.Dataset:
    """Chain the three stages: decode, detect, write."""
    options = DetectOptions(
        config.detector,
        config.output.dtype,
        config.output.path,
        identity,
        resources.threads,
        config.env,
    )
    # Grid cells and user boxes are not selected, so their number is never too small.
    selects = user_boxes is None and config.detector.features != "grid"
    min_boxes = config.detector.min_boxes if selects else 0
    write = WriteShard(config.output.path, config.output.compression, min_boxes)
    one_shard = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
    return (
        shards.map_batches(decode, num_cpus=config.cluster.decode_cpus, **one_shard)
        .map_batches(
            DetectShard,
            fn_constructor_args=(options,),
            compute=ray.data.ActorPoolStrategy(size=resources.actors),
            num_cpus=resources.cpus_per_actor,
            num_gpus=resources.gpus_per_actor,
            **one_shard,
        )
        .map_batches(write, num_cpus=WRITE_CPUS, **one_shard)
    )


def _shard_tables(plan: ShardPlan, todo: np.ndarray) -> list[pa.Table]:
    """Return a one-row table per shard: its number, and where its images are in the plan."""
    sizes = plan.sizes()
    starts = np.cumsum(sizes) - sizes
    return [
        pa.table(
            {
                "shard": pa.array([shard], pa.int32()),
                "start": pa.array([starts[shard]], pa.int64()),
                "count": pa.array([sizes[shard]], pa.int64()),
            }
        )
        for shard in todo
    ]


def _data_context(*callbacks: type) -> ray.data.DataContext:
    """Return Ray Data's settings for a run: no progress bars, and one block per shard."""
    context = ray.data.DataContext.get_current().copy()
    context.custom_execution_callback_classes = list(callbacks)
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_S
    context.target_max_block_size = None  # otherwise Ray splits large shards
    context.raise_original_map_exception = True
    return context
