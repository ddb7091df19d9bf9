"""Unpack an output's Parquet parts into the cache's flat files."""

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
from typing import Required, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
from tqdm import tqdm

from vlray.regions import cache, parts
from vlray.regions.cache import Index, Stamp
from vlray.regions.schema import Provenance, from_table
from vlray.settings.wording import counted
from vlray.storage import files
from vlray.storage.damage import open_parquet

log = logging.getLogger("vlray.regions")

THREADS = 4  # enough to overlap reading, decompression and writing
ROWS = 64  # images in memory per thread: 9 MiB for 36 float16 vectors of length 2048 per image
SPARE = 64 * 2**20  # bytes to leave free on the disk, for the table of images and other programs

_SMALL = ["image_id", "image_height", "image_width", "num_boxes"]


@dataclass(frozen=True, eq=False)
class _Head:
    """Small columns and metadata of a part; ``feature`` is the Arrow type of a vector, if any."""

    stamp: Stamp
    images: pa.Table
    feature: pa.DataType | None
    provenance: Provenance


def unpack(fs: pafs.FileSystem, root: str, folder: Path, index: Index, new: list[Stamp]) -> Index:
    """Append parts to the flat files that an index describes, and return the new index.

    The caller must hold the lock. The change takes effect when the caller saves the new index.

    Args:
        fs: File system of the output.
        root: Path of the output folder on ``fs``.
        folder: Cache folder.
        index: Index of the existing files; if it has no parts, new files are created.
        new: Stamps of the parts to append.

    Raises:
        OSError: The disk is too full; the message states the required and the free space.
        ValueError: The parts have vectors of different lengths or dtypes, several rows for an
            image, or damaged content.
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
    parts.check_unique(images["image_id"], index.output)
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
    # Check the space before anything is written.
    _check_space(folder, whole, replace(index, flat=flat))
    with _files(folder, whole, replace(index, flat=flat)) as descriptors:
        label_columns = _unpack_all(fs, root, folder, whole, heads, descriptors, index)
        for descriptor in descriptors.values():
            os.fsync(descriptor)
        # The flat files are on disk now, before any index refers to the new data.
        cache.save_images(folder, whole.table, images)
    labels = tuple(
        name for name in cache.LABEL.names or () if name in {*index.labels, *label_columns}
    )
    return replace(whole, labels=labels)


def _read_heads(fs: pafs.FileSystem, root: str, stamps: list[Stamp]) -> list[_Head]:
    """Read the small columns of parts, in parallel because object storage has a high latency."""
    with ThreadPoolExecutor(max_workers=4 * THREADS) as threads:
        return list(threads.map(lambda stamp: _read_head(fs, root, stamp), stamps))


def _read_head(fs: pafs.FileSystem, root: str, stamp: Stamp) -> _Head:
    with open_parquet(fs, files.join(root, parts.REGIONS, stamp[0]), parts.REMOVE) as part:
        schema = part.schema_arrow
        for name in _SMALL:
            schema.field(name)  # a KeyError names a missing column; reading would leave it out
        provenance = json.loads((schema.metadata or {}).get(b"vlray", b"{}"))
        provenance.pop("source", None)  # positions in an imported file, which differ by part
        wide = "visual_feats" in schema.names
        kind = schema.field("visual_feats").type.value_type if wide else None
        return _Head(stamp, part.read(columns=_SMALL, use_threads=False), kind, provenance)


class _Feature(TypedDict, total=False):
    feature_dim: Required[int]
    feature_dtype: str


def _feature(kind: pa.DataType | None) -> _Feature:
    if kind is None:
        return {"feature_dim": 0}
    dtype = "float16" if pa.types.is_float16(kind.value_type) else "float32"
    return {"feature_dim": kind.list_size, "feature_dtype": dtype}


def _words(feature: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in feature.items())


def _check(head: _Head, index: Index) -> None:
    feature = _feature(head.feature)
    expected = {name: getattr(index, name) for name in feature}
    if feature != expected:
        raise ValueError(
            f"{head.stamp[0]} in {index.output} has vectors with {_words(feature)}, but earlier "
            f"parts have {_words(expected)}; an output cannot mix them: extract it again"
        )


def _regions(head: _Head) -> int:
    return int(head.images["num_boxes"].to_numpy().sum())


def _starts(heads: list[_Head], index: Index) -> list[int]:
    """Return the number of regions that precede each part in the flat files."""
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
            f"unpacking the regions in {whole.output} needs {needed / 1e9:.1f} GB, but only "
            f"{free / 1e9:.1f} GB are free; set data.cache_dir to a folder on another disk",
            str(folder),
        )


@contextmanager
def _files(folder: Path, whole: Index, before: Index) -> Iterator[dict[str, int]]:
    """Open the flat files for appending; if an error occurs, undo all writes."""
    with ExitStack() as stack:
        descriptors = {}
        for name, size in before.flat_sizes().items():
            descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
            stack.callback(os.close, descriptor)
            os.ftruncate(descriptor, size)  # drop leftovers from a killed process
            descriptors[Path(name).suffix[1:]] = descriptor
        try:
            yield descriptors
        # Ctrl-C must not leave half-written rows either.
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
    """Unpack each part at its offset; return the label columns that at least one part has."""
    images = sum(len(head.images) for head in heads)
    size = sum(whole.flat_sizes().values()) / whole.regions if whole.regions else 0
    log.info(
        "unpacking %s into %s (%.1f GB)",
        counted(images, "image"),
        folder,
        size * (whole.regions - before.regions) / 1e9,
    )
    label_columns: set[str] = set()
    bar = tqdm(total=images, unit=" images", desc="unpack", disable=not sys.stderr.isatty())
    with bar, ThreadPoolExecutor(max_workers=THREADS) as threads:
        jobs = [
            threads.submit(_unpack_part, fs, root, head, descriptors, start)
            for head, start in zip(heads, _starts(heads, before), strict=True)
        ]
        try:
            for head, job in zip(heads, jobs, strict=True):
                label_columns |= job.result()
                bar.update(len(head.images))
        finally:
            # After an error or Ctrl-C, do not unpack the parts that are still queued.
            threads.shutdown(cancel_futures=True)
    return label_columns


def _unpack_part(
    fs: pafs.FileSystem, root: str, head: _Head, descriptors: Mapping[str, int], start: int
) -> set[str]:
    label_columns: set[str] = set()
    path = files.join(root, parts.REGIONS, head.stamp[0])
    with open_parquet(fs, path, parts.REMOVE) as part:
        names = [name for name in part.schema_arrow.names if name not in ("path", "split")]
        for rows in part.iter_batches(batch_size=ROWS, columns=names, use_threads=False):
            regions = from_table(rows)
            count = len(regions.boxes)
            labels = np.zeros(count, cache.LABEL)
            for name, missing in _MISSING.items():
                column = _labels(rows, name, missing)
                labels[name] = column
                if (column != missing).any():
                    label_columns.add(name)
            _write(descriptors["feats"], regions.visual_feats, start)
            _write(descriptors["boxes"], regions.boxes, start)
            _write(descriptors["labels"], labels.reshape(-1, 1), start)
            start += count
    return label_columns


_MISSING = {"obj_ids": -1, "obj_probs": 0.0, "attr_ids": -1, "attr_probs": 0.0}
"""Placeholder values for images without labels; some images in an imported output may have none."""


def _labels(rows: pa.RecordBatch, name: str, missing: float) -> np.ndarray:
    """Return one label column as one value per region, image by image."""
    lists = rows[name]
    values = lists.flatten().to_numpy(zero_copy_only=False)
    num_boxes = rows["num_boxes"].to_numpy()
    has = lists.value_lengths().to_numpy() > 0
    filled = np.full(int(num_boxes.sum()), missing, cache.LABEL[name])
    # `values` covers only the images that have this label.
    filled[np.repeat(has, num_boxes)] = values
    return filled


def _write(descriptor: int, values: np.ndarray, start: int) -> None:
    """Write rows to a flat file, beginning at row number ``start``."""
    width = values.shape[1] * values.itemsize
    if not values.size:
        return
    data = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    done = 0
    while done < len(data):  # one call may write only a part of the data
        done += os.pwrite(descriptor, data[done:], start * width + done)
