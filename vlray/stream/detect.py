"""Second stage: detect regions in decoded images, in Ray actors with one detector each."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from vlray.cluster.worker_logs import log_to_stderr
from vlray.config.detector import DetectorSection
from vlray.detect.load import load_detector
from vlray.detect.modes import info_of, regions_of
from vlray.detect.protocol import DetectorInfo
from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.schema import FAILURES, FeatureDtype, regions_schema, to_table
from vlray.settings.environment import EnvironmentSection
from vlray.settings.wording import counted
from vlray.storage import files
from vlray.stream.block import image_rows, pack, unpack

# If the detector raises on all images of a shard with at least this many images, the detector is
# considered broken, and the run fails. Otherwise only the images fail.
BROKEN_FROM = 4

log = logging.getLogger("vlray.stream")


@dataclass(frozen=True)
class DetectOptions:
    """Options that each detector actor receives."""

    detector: DetectorSection
    dtype: FeatureDtype
    output: str
    identity: dict[str, Any]
    threads: int
    env: EnvironmentSection | None = None
    """Log level and format; None: in the driver, whose logging stays as it is."""


class DetectShard:
    """Detect regions in a shard's decoded images.

    Ray creates one instance per actor, so that each actor loads the weights once. The instance has
    no state between shards: after a failure, Ray may rerun a shard on another actor.
    """

    def __init__(self, options: DetectOptions) -> None:
        """Load the detector."""
        if options.env is not None:
            log_to_stderr(options.env)
        self._detector = load_detector(options.detector)
        self._options = options.detector
        info = info_of(self._detector, options.detector)
        # Do not import torch here: it takes seconds, and a user's detector may not need it.
        self._batch_size = options.detector.batch_size or 1
        if (torch := sys.modules.get("torch")) is not None:
            from vlray.detect.device import batch_size_of

            torch.set_num_threads(options.threads)
            self._batch_size = batch_size_of(options.detector)
        self._schema = regions_schema(
            info.feature_dim, options.dtype, options.identity | _provenance(info)
        )
        _write_labels(options.output, info)

    def __call__(self, row: pa.Table) -> pa.Table:
        """Return the regions and failures of one shard, packed."""
        shard, tables = unpack(row)
        rows = list(image_rows(tables["images"]))
        good = [row for row in rows if row["image"] is not None]
        failed = {id(row): row for row in rows if row["image"] is None}
        detected: dict[int, RegionBatch] = {}
        for batch in _batches(good, self._batch_size):
            for image, regions in zip(batch, self._attempt(batch), strict=True):
                if isinstance(regions, Exception):
                    failed[id(image)] = image | {
                        "stage": "detect",
                        "error": type(regions).__name__,
                        "reason": str(regions) or repr(regions),
                    }
                    last = regions
                else:
                    detected[id(image)] = regions
        if len(good) >= BROKEN_FROM and not detected:
            raise RuntimeError(
                f"the detector raised an exception on all {len(good)} images of shard {shard}, so "
                f"the fault is in the detector: {type(last).__name__}: {last}"
            ) from last
        # Restore the order of the shard, which batching by image size has changed.
        complete = [row for row in rows if id(row) in detected]
        failures = [failed[id(row)] for row in rows if id(row) in failed]
        return pack(
            shard,
            regions=self._table(complete, [detected[id(row)] for row in complete]),
            failures=parts.with_digests(
                pa.Table.from_pylist(failures, schema=FAILURES), _digests(failures)
            ),
        )

    def _attempt(self, batch: list[dict[str, Any]]) -> list[RegionBatch | Exception]:
        """Detect regions in a batch; if this raises, retry the batch, then each image separately.

        The retry uses the same batch, so that a transient error does not change the features.
        A single image needs the least memory, and shows which image causes the error.
        """
        for attempt in range(2):
            try:
                return list(self._detect(batch))
            except Exception as error:
                log.warning(
                    "the detector raised an exception on %s: %r",
                    counted(len(batch), "image"),
                    error,
                )
                if len(batch) == 1 and attempt:
                    return [error]
                _free_memory()
        return [regions for image in batch for regions in self._attempt([image])]

    def _detect(self, batch: list[dict[str, Any]]) -> RegionBatch:
        image_hw = np.array(
            [(row["image_height"], row["image_width"]) for row in batch], np.int32
        ).reshape(-1, 2)
        boxes = [row["boxes"] for row in batch]
        return regions_of(
            self._detector,
            self._options,
            [row["image"] for row in batch],
            image_hw,
            None if boxes[0] is None else boxes,  # all images of a run have user boxes, or none has
        )

    def _table(self, rows: list[dict[str, Any]], regions: list[RegionBatch]) -> pa.Table:
        if not rows:
            return self._schema.empty_table()
        image_ids, paths, splits = (
            [row[name] for row in rows] for name in ("image_id", "path", "split")
        )
        table = to_table(RegionBatch.concat(regions), image_ids, paths, splits, self._schema)
        return parts.with_digests(table, _digests(rows))


def _digests(rows: list[dict[str, Any]]) -> list[str]:
    return [row["digest"] or "" for row in rows]


def _batches(rows: list[dict[str, Any]], batch_size: int) -> Iterator[list[dict[str, Any]]]:
    """Yield batches of equal-sized images, because padding could change the features."""
    groups: dict[tuple[int, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["image"].shape, []).append(row)
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _provenance(info: DetectorInfo) -> dict[str, Any]:
    labels = json.dumps([info.obj_names, info.attr_names]).encode()
    return {
        "detector_name": info.name,
        "feature_dim": info.feature_dim,
        "weights_sha256": info.weights_sha256,
        "conventions": dict(info.conventions),
        "labels_sha256": hashlib.sha256(labels).hexdigest(),
    }


def _write_labels(output: str, info: DetectorInfo) -> None:
    """Write the class and attribute names. Every actor writes the same file."""
    fs, root = files.resolve(output)
    path = files.join(root, parts.LABELS)
    labels = {"obj_names": info.obj_names, "attr_names": info.attr_names}
    files.write_atomic(fs, path, json.dumps(labels, ensure_ascii=False, indent=1).encode())


def _free_memory() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
