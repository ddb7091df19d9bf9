"""The Ray Data pipeline: a pool of actors, each of which decodes, detects and writes shards."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import ray
import ray.data
from ray.data.context import AutoscalingConfig

from vlray.cluster.capacity import ResourcePlan
from vlray.cluster.connection import default_variables
from vlray.cluster.console import quiet_loggers
from vlray.cluster.growth import Growth, RayCluster, plan_actors
from vlray.cluster.journal import start_journal
from vlray.cluster.worker_logs import forwarded
from vlray.config.extract import ExtractConfig
from vlray.regions.schema import Identity
from vlray.regions.user_boxes import UserBoxes
from vlray.runs.folder import current_run
from vlray.settings.log_format import DETAIL
from vlray.stream.across import WINDOW
from vlray.stream.metrics import ExtractMetrics
from vlray.stream.nodes import Watch, stall_limit
from vlray.stream.plan import ShardPlan, shard_tables
from vlray.stream.progress import ExtractProgress
from vlray.stream.shard import ExtractShard
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
        _planned(config, len(todo)) as (resources, growth),
    ):
        log.info("loading detectors: %s", resources, extra=DETAIL)
        journal = start_journal()
        labels = config.cluster.label_selector
        watch = Watch(resources, growth, journal, stall_limit(config), labels)
        metrics = ExtractMetrics(
            config.project, current_run(), int(plan.sizes()[todo].sum()), len(todo)
        )
        stages = build_stages(
            config,
            ray.put(images_of(plan, user_boxes)),
            images_root,
            identity,
            resources,
            selects=selects_regions(config, user_boxes),
            journal=journal,
        )
        with ray.data.DataContext.current(_data_context(watch.callback, metrics.callback)):
            shards = ray.data.from_arrow(shard_tables(plan, todo))
            in_flight = _shards_in_flight(resources, config.output.shard_size)
            rows = _summaries(shards, stages, resources, growth, labels, in_flight).iter_rows()
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


def _shards_in_flight(resources: ResourcePlan, shard_size: int) -> int:
    """Return how many shards an actor works on at once."""
    if not resources.gpus_per_actor:
        return 2
    # A GPU must not wait for an image: besides those in its queue, one is decoded and one written.
    return 2 + math.ceil(WINDOW / shard_size)


@contextmanager
def _planned(config: ExtractConfig, shards: int) -> Iterator[tuple[ResourcePlan, Growth | None]]:
    """Plan the actors, and withdraw the request for nodes at the end."""
    cluster = RayCluster(config.cluster.label_selector)
    on_cpu = config.detector.device == "cpu"
    plan, growth = plan_actors(config.cluster, shards, cluster, on_cpu=on_cpu)
    try:
        yield plan, growth
    finally:
        if growth:
            growth.close()


def _summaries(
    shards: ray.data.Dataset,
    stages: Stages,
    resources: ResourcePlan,
    growth: Growth | None,
    label_selector: dict[str, str],
    in_flight: int,
) -> ray.data.Dataset:
    """Run the shards in a pool of actors; only the summaries come back."""
    return shards.map_batches(
        ExtractShard,
        fn_constructor_args=(stages,),
        compute=ray.data.ActorPoolStrategy(
            min_size=resources.actors,
            max_size=growth.most if growth else resources.actors,
            max_tasks_in_flight_per_actor=in_flight,
            max_concurrent_calls_per_actor=in_flight,
            enable_true_multi_threading=True,
        ),
        num_cpus=resources.cpus_per_actor,
        num_gpus=resources.gpus_per_actor,
        batch_size=1,
        batch_format="pyarrow",
        **({"label_selector": label_selector} if label_selector else {}),
    )


def _data_context(*callbacks: type) -> ray.data.DataContext:
    """Return Ray Data's settings for a run: no progress bars, and no time limit."""
    context = ray.data.DataContext.get_current().copy()
    context.custom_execution_callback_classes = list(callbacks)
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # it counts only whole tasks; see `Watch`
    context.raise_original_map_exception = True
    # An actor takes as many shards as it works on, so the default of 1.75 would never be reached.
    # With 0.5, up to as many actors start at a time as are running.
    context.autoscaling_config = AutoscalingConfig(
        actor_pool_util_upscaling_threshold=0.5, actor_pool_util_downscaling_threshold=0.1
    )
    return context
