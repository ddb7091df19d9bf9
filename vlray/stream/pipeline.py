"""The Ray Data pipeline: decode tasks feed detector actors, which feed write tasks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data

from vlray.cluster.capacity import WRITE_CPUS, allot, connect, living_nodes
from vlray.cluster.worker_logs import forwarded
from vlray.config.extract import ExtractConfig
from vlray.detect.load import resize_of
from vlray.regions.given import GivenBoxes
from vlray.runs.folder import current_run
from vlray.stream.decode import DecodeShard
from vlray.stream.detect import DetectOptions, DetectShard
from vlray.stream.metrics import ExtractMetrics
from vlray.stream.nodes import Watch
from vlray.stream.plan import Plan
from vlray.stream.write import WriteShard

# Ray's own limit is half an hour. A shard takes seconds to minutes, so nothing at all in this time
# means that something hangs: an actor that dies on every start, resources that never come.
NO_PROGRESS_S = 900.0

log = logging.getLogger("vlray.stream")


def shard_rows(
    config: ExtractConfig,
    images_root: str,
    identity: dict[str, Any],
    plan: Plan,
    todo: np.ndarray,
    given: GivenBoxes | None = None,
) -> Iterator[dict[str, Any]]:
    """Run the shards and yield a summary of each as it is written, in no particular order.

    Args:
        config: All settings.
        images_root: What the plan's paths are relative to.
        identity: Of the output; part of each file.
        plan: All images in shards.
        todo: The shards to run.
        given: Boxes to pool; None: the detector finds its own.

    Raises:
        ValueError: The cluster cannot hold the actors that are asked for.
        NodesLostError: It held them at first, but no longer does, and the run stands still.
    """
    resize = resize_of(config.detector)
    connect(config.cluster)
    with forwarded():
        allotment = allot(config.cluster, living_nodes(), len(todo))
        log.info("detectors: %s; loading them", allotment)
        watch = Watch(allotment)
        metrics = ExtractMetrics(
            config.project, current_run(), int(plan.sizes()[todo].sum()), len(todo)
        )
        _set_up_ray_data(watch.callback, metrics.callback)
        images = plan.table.select(["image_id", "path", "split"])
        if given is not None:
            images = images.append_column("boxes", given.of(images["image_id"]))
        plan_ref = ray.put(images.combine_chunks())
        decode = DecodeShard(plan_ref, images_root, config.images.max_pixels, resize, config.env)
        options = DetectOptions(
            config.detector,
            config.output.dtype,
            config.output.path,
            identity,
            allotment.threads,
            config.env,
        )
        selects = given is None and config.detector.features != "grid"
        min_boxes = config.detector.min_boxes if selects else 0
        write = WriteShard(config.output.path, config.output.compression, min_boxes)
        one_shard = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
        rows = (
            ray.data.from_arrow(_shard_tables(plan, todo))
            .map_batches(decode, num_cpus=config.cluster.decode_cpus, **one_shard)
            .map_batches(
                DetectShard,
                fn_constructor_args=(options,),
                compute=ray.data.ActorPoolStrategy(size=allotment.actors),
                num_cpus=allotment.cpus_per_actor,
                num_gpus=allotment.gpus_per_actor,
                **one_shard,
            )
            .map_batches(write, num_cpus=WRITE_CPUS, **one_shard)
            .iter_rows()
        )
        try:
            for row in rows:
                watch.moved()
                metrics.add(row)
                yield row
        finally:  # whatever this process, or a worker that it starts, does with Ray Data later
            ray.data.DataContext.get_current().custom_execution_callback_classes = []


def _shard_tables(plan: Plan, todo: np.ndarray) -> list[pa.Table]:
    """One row for each shard: its number, and where its images are in the plan."""
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


def _set_up_ray_data(*callbacks: type) -> None:
    """Leave progress to vlray, and never cut the block of a shard in two."""
    context = ray.data.DataContext.get_current()
    context.custom_execution_callback_classes = list(callbacks)
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = NO_PROGRESS_S
    context.target_max_block_size = None
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
