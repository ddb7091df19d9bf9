"""The three stages of an extraction, built from its settings; Ray or this process runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vlray.cluster.capacity import ResourcePlan
from vlray.cluster.journal import ClusterJournal
from vlray.config.detector import DetectorSection
from vlray.config.extract import ExtractConfig
from vlray.detect.load import is_own, resize_of
from vlray.detect.protocol import Resize
from vlray.regions.user_boxes import UserBoxes
from vlray.settings import plugins
from vlray.storage import files
from vlray.stream.decode import DecodeShard
from vlray.stream.detect import DetectOptions
from vlray.stream.plan import ShardPlan
from vlray.stream.write import WriteShard

if TYPE_CHECKING:
    import ray


REMOTE_READS = 4  # images of object storage per decoding thread: most of the time they wait


@dataclass(frozen=True)
class Stages:
    """Decode, detect (its options: each process loads its own detector) and write.

    Attributes:
        is_isolated: Whether images are always decoded and detected in child processes.
        is_across: Whether an actor detects across shards, as GPUs need batches.
    """

    decode: DecodeShard
    detect: DetectOptions
    write: WriteShard
    is_isolated: bool = False
    is_across: bool = False


def images_of(plan: ShardPlan, user_boxes: UserBoxes | None) -> pa.Table:
    """Return the columns of the plan that the first stage reads, with the user's boxes."""
    images = plan.table.select(["image_id", "path", "split", "place"])
    if user_boxes is not None:
        images = images.append_column("boxes", user_boxes.of(images["image_id"]))
    return images.combine_chunks()


def build_stages(
    config: ExtractConfig,
    images: pa.Table | ray.ObjectRef,
    images_root: str,
    identity: dict[str, Any],
    resources: ResourcePlan,
    *,
    selects: bool,
    journal: ClusterJournal | None = None,
    is_isolated: bool = False,
) -> Stages:
    """Build the stages.

    Args:
        config: All settings.
        images: Result of `images_of`, or a reference to it in Ray's object store.
        images_root: Base of the plan's relative paths.
        identity: Identity of the output, which each file stores.
        resources: Resources of each process.
        selects: Whether the detector selects its regions: neither grid cells nor user boxes.
        journal: Journal of the run on Ray; None: the stages run in the driver, whose logging stays
            as it is.
        is_isolated: Whether images are always decoded and detected in child processes.
    """
    env = None if journal is None else config.env
    output, cluster = config.output, config.cluster
    return Stages(
        DecodeShard(
            images,
            images_root,
            config.images.max_pixels,
            _portable_resize(config.detector),
            resources.decode_threads * (REMOTE_READS if files.is_uri(images_root) else 1),
            cluster.image_timeout,
            cluster.image_memory_gb,
        ),
        DetectOptions(
            config.detector,
            output.dtype,
            output.path,
            identity,
            resources.threads,
            env,
            journal,
            cluster.image_timeout,
            cluster.image_memory_gb,
            # Without Ray, a crash in code that vlray does not know would end the whole command.
            is_separate=is_isolated or (journal is None and is_own(config.detector)),
            tags=output.tags,
        ),
        WriteShard(output.path, output.compression, config.detector.min_boxes if selects else 0),
        is_isolated,
        is_across=resources.gpus_per_actor > 0,
    )


def _portable_resize(options: DetectorSection) -> Resize | DetectorSection | None:
    """Return the detector's resizing, or its options if other processes cannot unpickle it."""
    resize = resize_of(options)
    return options if plugins.is_from_file(resize) else resize


def selects_regions(config: ExtractConfig, user_boxes: UserBoxes | None) -> bool:
    """Return whether the detector selects regions, so that their number can be too small."""
    return user_boxes is None and config.detector.features != "grid"
