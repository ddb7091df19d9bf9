"""The three stages of an extraction, built from its settings; Ray or this process runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vlray.cluster.journal import ClusterJournal
from vlray.config.detector import DetectorSection
from vlray.config.extract import ExtractConfig
from vlray.detect.load import is_own, resize_of
from vlray.detect.protocol import Resize
from vlray.regions.user_boxes import UserBoxes
from vlray.settings import plugins
from vlray.stream.decode import DecodeShard
from vlray.stream.detect import DetectOptions
from vlray.stream.plan import ShardPlan
from vlray.stream.write import WriteShard

if TYPE_CHECKING:
    import ray


@dataclass(frozen=True)
class Stages:
    """Decode, detect (its options: each actor constructs its own detector) and write."""

    decode: DecodeShard
    detect: DetectOptions
    write: WriteShard


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
    threads: int,
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
        threads: Compute threads per detector.
        selects: Whether the detector selects its regions: neither grid cells nor user boxes.
        journal: Journal of the run on Ray; None: the stages run in the driver, whose logging stays
            as it is.
        is_isolated: Whether images are always decoded, and the detector always runs, in child
            processes.
    """
    env = None if journal is None else config.env
    output, cluster = config.output, config.cluster
    return Stages(
        DecodeShard(
            images,
            images_root,
            config.images.max_pixels,
            _portable_resize(config.detector),
            env,
            journal,
            cluster.image_timeout,
            cluster.image_memory_gb,
            is_isolated,
        ),
        DetectOptions(
            config.detector,
            output.dtype,
            output.path,
            identity,
            threads,
            env,
            journal,
            cluster.image_timeout,
            cluster.image_memory_gb,
            # Without Ray, a crash in code that vlray does not know would end the whole command.
            is_separate=is_isolated or (journal is None and is_own(config.detector)),
        ),
        WriteShard(output.path, output.compression, config.detector.min_boxes if selects else 0),
    )


def _portable_resize(options: DetectorSection) -> Resize | DetectorSection | None:
    """Return the detector's resizing, or its options if other processes cannot unpickle it."""
    resize = resize_of(options)
    return options if plugins.is_from_file(resize) else resize


def selects_regions(config: ExtractConfig, user_boxes: UserBoxes | None) -> bool:
    """Return whether the detector selects regions, so that their number can be too small."""
    return user_boxes is None and config.detector.features != "grid"
