"""Unpack the Parquet parts of an output into the flat files of the cache.

Shapes: N images of a part, R regions of all of them together.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from tqdm import tqdm

from vlray.regions import cache, parts
from vlray.regions.cache import Index, Stamp
from vlray.regions.schema import from_table
from vlray.storage import files

log = logging.getLogger("vlray.regions")

THREADS = 4  # reading, decompressing and writing overlap; more only takes memory
ROWS = 64  # images that a thread has in memory at a time: 9 MiB at 36 x 2048 float16
SPARE = 64 * 2**20  # bytes left free on the disk for the table of images and for others

_SMALL = ["image_id", "image_height", "image_width", "num_boxes"]


@dataclass(frozen=True, eq=False)
class _Head:
    """What is known of a part before its regions are read."""

    stamp: Stamp
    images: pa.Table
    feature: pa.DataType | None
    provenance: dict[str, Any]


def unpack(fs: pafs.FileSystem, root: str, folder: Path, index: Index, new: list[Stamp]) -> Index:
    """Append parts to what an index counts, and give the index of the whole.

    Whoever calls this holds the lock. Until the returned index is saved, nothing has happened.

    Args:
        fs: Where the output is.
        root: Its folder there.
        folder: Of the cache.
        index: What is there already; with no parts, all files are begun.
        new: Parts that it does not have.

    Raises:
        OSError: The disk is too full: how much is needed where is said.
        ValueError: The parts are not of one form.
    """
    heads = _read_heads(fs, root, new)
    first = heads[0] if heads and not index.parts else None
    if first is not None:
        index = replace(index, provenance=first.provenance, **_feature(first.feature))
    for head in heads:
        _check(head, index)
    tables = [
        _numbered(head.images, start)
        for head, start in zip(heads, _starts(heads, index), strict=True)
    ]
    old = [cache.load_images(folder, index.table)] if index.parts else []
    images = pa.concat_tables([*old, *tables, cache.IMAGES.empty_table()])
    regions = index.regions + sum(_regions(head) for head in heads)
    flat = index.flat if index.parts else secrets.token_hex(6)
    whole = replace(
        index,
        parts=(*index.parts, *new),
        images=len(images),
        regions=regions,
        flat=flat,
        table=secrets.token_hex(6),
    )
    _check_space(folder, whole, replace(index, flat=flat))
    with _files(folder, whole, replace(index, flat=flat)) as descriptors:
        seen = _unpack_all(fs, root, folder, whole, heads, descriptors, index)
        for descriptor in descriptors.values():
            os.fsync(descriptor)
        cache.save_images(folder, whole.table, images)
    labels = tuple(name for name in cache.LABEL.names or () if name in {*index.labels, *seen})
    return replace(whole, labels=labels)


def _read_heads(fs: pafs.FileSystem, root: str, stamps: list[Stamp]) -> list[_Head]:
    """Read the small columns of parts; on object storage, waiting is most of it."""
    with ThreadPoolExecutor(max_workers=4 * THREADS) as threads:
        return list(threads.map(lambda stamp: _read_head(fs, root, stamp), stamps))


def _read_head(fs: pafs.FileSystem, root: str, stamp: Stamp) -> _Head:
    with pq.ParquetFile(files.join(root, parts.REGIONS, stamp[0]), filesystem=fs) as part:
        schema = part.schema_arrow
        provenance = json.loads((schema.metadata or {}).get(b"vlray", b"{}"))
        provenance.pop("source", None)  # which of an imported file's rows the part is of
        wide = "visual_feats" in schema.names
        kind = schema.field("visual_feats").type.value_type if wide else None
        return _Head(stamp, part.read(columns=_SMALL, use_threads=False), kind, provenance)


def _feature(kind: pa.DataType | None) -> dict[str, Any]:
    if kind is None:
        return {"feature_dim": 0}
    dtype = "float16" if pa.types.is_float16(kind.value_type) else "float32"
    return {"feature_dim": kind.list_size, "feature_dtype": dtype}


def _check(head: _Head, index: Index) -> None:
    feature = _feature(head.feature)
    expected = {name: getattr(index, name) for name in feature}
    if feature != expected:
        raise ValueError(
            f"{head.stamp[0]} of {index.output} holds vectors of {feature}, but the parts before "
            f"it of {expected}; one output holds one kind of regions, so extract it again"
        )


def _regions(head: _Head) -> int:
    return int(head.images["num_boxes"].to_numpy().sum())


def _starts(heads: list[_Head], index: Index) -> list[int]:
    """Give the number of regions before each part."""
    before = accumulate(map(_regions, heads), initial=index.regions)
    return list(before)[:-1]


def _numbered(images: pa.Table, start: int) -> pa.Table:
    num_boxes = images["num_boxes"].to_numpy()
    image_hw = np.stack([images["image_height"], images["image_width"]], axis=1).astype(np.int32)
    first = start + np.cumsum(num_boxes, dtype=np.int64) - num_boxes
    columns = [
        images["image_id"],
        pa.FixedSizeListArray.from_arrays(pa.array(image_hw.reshape(-1)), 2),
        images["num_boxes"],
        pa.array(first),
    ]
    return pa.table(columns, schema=cache.IMAGES)


def _check_space(folder: Path, whole: Index, before: Index) -> None:
    needed = sum(whole.flat_sizes().values()) - sum(before.flat_sizes().values()) + SPARE
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"unpacking the regions of {whole.output} needs {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free; give data.cache_dir a folder on another disk",
            str(folder),
        )


@contextmanager
def _files(folder: Path, whole: Index, before: Index) -> Iterator[dict[str, int]]:
    """Open the flat files to write behind what they hold; nothing half-made stays in them."""
    with ExitStack() as stack:
        descriptors = {}
        for name, size in before.flat_sizes().items():
            descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
            stack.callback(os.close, descriptor)
            os.ftruncate(descriptor, size)  # beyond it is what a killed process left
            descriptors[Path(name).suffix[1:]] = descriptor
        try:
            yield descriptors
        except BaseException:
            for name, size in before.flat_sizes().items():
                if size:
                    os.truncate(folder / name, size)
                else:
                    (folder / name).unlink(missing_ok=True)
            (folder / f"{whole.table}.arrow").unlink(missing_ok=True)
            raise


def _unpack_all(
    fs: pafs.FileSystem,
    root: str,
    folder: Path,
    whole: Index,
    heads: list[_Head],
    descriptors: Mapping[str, int],
    before: Index,
) -> set[str]:
    """Unpack each part to its place; give the label columns that any of them has."""
    images = sum(len(head.images) for head in heads)
    size = sum(whole.flat_sizes().values()) / whole.regions if whole.regions else 0
    log.info(
        "unpacking %s images into %s (%.1f GB)",
        f"{images:,}",
        folder,
        size * (whole.regions - before.regions) / 1e9,
    )
    seen: set[str] = set()
    bar = tqdm(total=images, unit=" images", desc="unpack", disable=not sys.stderr.isatty())
    with bar, ThreadPoolExecutor(max_workers=THREADS) as threads:
        jobs = [
            threads.submit(_unpack_part, fs, root, head, descriptors, place)
            for head, place in zip(heads, _starts(heads, before), strict=True)
        ]
        try:
            for head, job in zip(heads, jobs, strict=True):
                seen |= job.result()
                bar.update(len(head.images))
        finally:
            threads.shutdown(cancel_futures=True)
    return seen


def _unpack_part(
    fs: pafs.FileSystem, root: str, head: _Head, descriptors: Mapping[str, int], place: int
) -> set[str]:
    seen: set[str] = set()
    path = files.join(root, parts.REGIONS, head.stamp[0])
    with pq.ParquetFile(path, filesystem=fs) as part:
        names = [name for name in part.schema_arrow.names if name not in ("path", "split")]
        for rows in part.iter_batches(batch_size=ROWS, columns=names, use_threads=False):
            regions = from_table(rows)
            count = len(regions.boxes)
            labels = np.zeros(count, cache.LABEL)
            for name, missing in _MISSING.items():
                column = _labels(rows, name, missing)
                labels[name] = column
                if (column != missing).any():
                    seen.add(name)
            _write(descriptors["feats"], regions.visual_feats, place)
            _write(descriptors["boxes"], regions.boxes, place)
            _write(descriptors["labels"], labels.reshape(-1, 1), place)
            place += count
    return seen


_MISSING = {"obj_ids": -1, "obj_probs": 0.0, "attr_ids": -1, "attr_probs": 0.0}
"""What stands where an image has no such label: one that was imported may lack what others have."""


def _labels(rows: pa.RecordBatch, name: str, missing: float) -> np.ndarray:
    """Give a label of each region, image by image."""
    lists = rows[name]
    values = lists.flatten().to_numpy(zero_copy_only=False)
    num_boxes = rows["num_boxes"].to_numpy()
    has = lists.value_lengths().to_numpy() > 0
    filled = np.full(int(num_boxes.sum()), missing, cache.LABEL[name])
    filled[np.repeat(has, num_boxes)] = values
    return filled


def _write(descriptor: int, values: np.ndarray, place: int) -> None:
    """Write rows at their place, given in rows."""
    width = values.shape[1] * values.itemsize
    if not values.size:
        return
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], place * width + done)
