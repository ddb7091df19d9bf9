"""Random access to an output's regions for training, at nearly the speed of memory.

Shapes: N: images; R: regions per image, including padding; K: single regions; M: requested ids;
D: feature length.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
from jaxtyping import Float32, Int32, Int64, Num

from vlray.regions import cache, parts, unpack
from vlray.regions.cache import Index, Stamp
from vlray.regions.reading import describe
from vlray.regions.schema import Provenance
from vlray.settings.wording import counted
from vlray.storage import files
from vlray.storage.fingerprint import of_folder


class RegionStore:
    """Regions of an output, with random access by row; opened by `open_store`.

    Vectors are read from a file into the caller's array and are not held in memory. The operating
    system's page cache, which all processes share, makes repeated reads fast. Several threads may
    read concurrently. A store can be pickled: the unpickling process opens the same files.

    >>> store = open_store("out", Path("cache"))  # doctest: +SKIP
    >>> feats = np.empty((2, 36, store.feature_dim), store.feature_dtype)  # doctest: +SKIP
    >>> store.read_feats(store.rows(["9", "25"]), feats)  # doctest: +SKIP

    Attributes:
        output: Location of the output.
        feature_dim: Length D of a feature vector; 0 if the output has no vectors.
        feature_dtype: Dtype of the stored vectors, float16 or float32.
        obj_names, attr_names: Names indexed by id, for the ids that ``read_labels`` returns.
    """

    def __init__(self, folder: Path, index: Index) -> None:
        """Open the files in a cache folder that ``index`` lists."""
        self._folder, self._index = folder, index
        self.output = index.output
        self.feature_dim = index.feature_dim
        self.feature_dtype = np.dtype(index.feature_dtype)
        self.obj_names, self.attr_names = index.obj_names, index.attr_names
        self._images = cache.load_images(folder, index.table)
        self._descriptors: dict[str, int] = {}
        # Registered before the first open, so that an error below leaves no file open.
        weakref.finalize(self, _close, self._descriptors)
        for name in index.flat_sizes():
            self._descriptors[Path(name).suffix[1:]] = os.open(folder / name, os.O_RDONLY)

    def __reduce__(self) -> tuple[Callable[..., RegionStore], tuple[Path, str, int]]:
        """Pickle the location of the files rather than their content."""
        return _reopen, (self._folder, self._index.flat, self._index.images)

    def __repr__(self) -> str:
        count, dim, dtype = len(self), self.feature_dim, self.feature_dtype
        return f"RegionStore({self.output!r}, {count} images, vectors of {dim} {dtype})"

    def __len__(self) -> int:
        """Return the number of images."""
        return self._index.images

    @property
    def image_ids(self) -> pa.ChunkedArray:
        """Ids of the images, in row order."""
        return self._images["image_id"]

    @cached_property
    def num_boxes(self) -> Int32[np.ndarray, N]:
        """Number of regions in each image."""
        return _mapped(self._images["num_boxes"])

    @cached_property
    def image_hw(self) -> Int32[np.ndarray, "N 2"]:
        """Height and width of each original image, in pixels."""
        chunks = self._images["image_hw"].chunks
        return _mapped(pa.chunked_array([c.flatten() for c in chunks], pa.int32())).reshape(-1, 2)

    @cached_property
    def _first(self) -> Int64[np.ndarray, N]:
        return _mapped(self._images["first"])

    @property
    def provenance(self) -> Provenance:
        """Provenance of the regions, from ``vlray.json`` and the metadata of the parts."""
        return {**self._index.about, **self._index.provenance}

    def rows(self, image_ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> Int64[np.ndarray, M]:
        """Look up the rows of images by id.

        Each call scans all ids in the output, so pass many ids at once.

        Returns:
            The row of each image; -1 if the output does not have the image.
        """
        if not isinstance(image_ids, pa.Array | pa.ChunkedArray):
            image_ids = pa.array(image_ids, pa.string())
        indices = pc.fill_null(pc.index_in(image_ids, value_set=self.image_ids), -1)
        rows: np.ndarray = indices.to_numpy().astype(np.int64)
        return rows

    def read_feats(self, rows: Int64[np.ndarray, N], out: Num[np.ndarray, "N R D"]) -> None:
        """Read the feature vectors of images into an array.

        Args:
            rows: Rows of the images.
            out: C-contiguous array to fill, with the stored dtype. The first R regions of each
                image are read; an image with fewer regions is padded with zeros.

        Raises:
            ValueError: The array has the wrong shape, dtype or layout, or a row does not exist.
            OSError: The file was truncated.
        """
        self._read("feats", rows, out, (self.feature_dim,), self.feature_dtype)

    def read_boxes(self, rows: Int64[np.ndarray, N], out: Float32[np.ndarray, "N R 4"]) -> None:
        """Read the boxes of images, like ``read_feats``: ``x1, y1, x2, y2`` in pixels, float32."""
        self._read("boxes", rows, out, (4,), np.dtype(np.float32))

    def read_labels(self, rows: Int64[np.ndarray, N], num_regions: int) -> dict[str, np.ndarray]:
        """Read the object classes and attributes of images.

        Returns:
            ``obj_ids``, ``obj_probs``, ``attr_ids`` and ``attr_probs``, as far as the output has
            them, (N, num_regions) each. For padding and missing labels, the id is -1 and the
            probability is 0.

        Raises:
            ValueError: A row does not exist.
        """
        out = np.empty((len(rows), num_regions), cache.LABEL)
        # `_read` pads with zeros, but 0 is a valid id, so the padding of ids is set to -1 below.
        self._read("labels", rows, out, (), cache.LABEL)
        padding = np.arange(num_regions) >= self.num_boxes[rows][:, None]
        labels = {name: out[name].copy() for name in self._index.labels}
        for name, values in labels.items():
            if name.endswith("_ids"):
                values[padding] = -1
        return labels

    def read_feat_rows(
        self, rows: Int64[np.ndarray, K], regions: Int64[np.ndarray, K]
    ) -> Num[np.ndarray, "K D"]:
        """Read the feature vectors of single regions.

        Args:
            rows: Row of the image that contains each region.
            regions: Index of each region within its image.

        Raises:
            ValueError: A row or region does not exist.
        """
        self._check_rows(rows)
        regions = np.asarray(regions)
        bad = (regions < 0) | (regions >= self.num_boxes[rows])
        if bad.any():
            at = int(bad.argmax())
            raise ValueError(
                f"region {regions[at]} of row {rows[at]} is out of range: the image has "
                f"{counted(int(self.num_boxes[rows[at]]), 'region')}"
            )
        out = np.empty((len(rows), self.feature_dim), self.feature_dtype)
        for values, region in zip(out, (self._first[rows] + regions).tolist(), strict=True):
            self._fill("feats", values, region * values.nbytes)
        return out

    def _read(
        self, kind: str, rows: np.ndarray, out: np.ndarray, shape: tuple[int, ...], dtype: np.dtype
    ) -> None:
        self._check_rows(rows)
        # The caller chooses R through the shape of the array.
        expected = (len(rows), *out.shape[1:2], *shape)
        if out.shape != expected or out.dtype != dtype or not out.flags.c_contiguous:
            raise ValueError(
                f"cannot read {kind} of {counted(len(rows), 'image')} into an array of "
                f"{out.dtype} {out.shape}; pass a C-contiguous array of {dtype} "
                f"{('N', 'R', *shape)}"
            )
        width = dtype.itemsize * int(np.prod(shape))
        counts = np.minimum(self.num_boxes[rows], out.shape[1]).tolist()
        offsets = (self._first[rows] * width).tolist()
        for values, count, offset in zip(out, counts, offsets, strict=True):
            if count < len(values):
                values[count:] = 0
            if count and width:
                self._fill(kind, values[:count], offset)

    def _fill(self, kind: str, values: np.ndarray, offset: int) -> None:
        data = values.reshape(-1).view(np.uint8).data
        # preadv uses no shared file position, so threads can read concurrently.
        done = os.preadv(self._descriptors[kind], [data], offset)
        while done < len(data):  # a signal or the file system can cut a read short
            more = os.preadv(self._descriptors[kind], [data[done:]], offset + done)
            if not more:
                raise OSError(
                    f"{self._folder / self._index.flat}.{kind} is truncated; delete the folder to "
                    "have it rebuilt"
                )
            done += more

    def _check_rows(self, rows: np.ndarray) -> None:
        bad = (rows < 0) | (rows >= len(self))
        if bad.any():
            raise ValueError(
                f"row {rows[bad.argmax()]} is out of range: {self.output} has "
                f"{counted(len(self), 'image')}; rows() returns -1 for missing images"
            )


def open_store(output: str, cache_dir: Path) -> RegionStore:
    """Open an output for random access; the first call unpacks the regions into the cache.

    If the output has grown since then, the new parts are appended after the existing rows. If the
    output has changed, everything is unpacked again. One process unpacks while others wait.

    Args:
        output: A local path or a URI (``s3://...``, ``gs://...``).
        cache_dir: Local folder for the unpacked regions; needs as much space as all vectors.

    Raises:
        FileNotFoundError: The folder is not a vlray output.
        ValueError: The parts have vectors of different lengths or dtypes.
        OSError: The cache cannot be written to or locked, or the disk is too full.
    """
    fs, root = files.resolve(output)
    folder = cache.folder_of(cache_dir, fs, root, output)
    description = describe(fs, root, output)
    names = description.obj_names, description.attr_names
    empty = Index(output, description.about, obj_names=names[0], attr_names=names[1])
    stamps = _stamps(fs, root)
    cached = cache.load_index(folder)
    if _is_reusable(cached, empty, stamps) and len(cached.parts) == len(stamps):
        # No part is new, so the lock is not needed.
        try:
            return RegionStore(folder, cached)
        except FileNotFoundError:  # another process has just replaced the cached files
            pass
    with cache.hold_build_lock(folder):
        # Another process may have unpacked while this one waited for the lock.
        cached = cache.load_index(folder)
        cache.remove_stale_files(folder, cached)
        index = cached if _is_reusable(cached, empty, stamps) else empty
        unpacked = set(index.parts)
        new = [stamp for stamp in stamps if stamp not in unpacked]
        if new or index is empty:
            index = unpack.unpack(fs, root, folder, index, new)
            cache.save_index(folder, index)
        return RegionStore(folder, index)


def _stamps(fs: pafs.FileSystem, root: str) -> list[Stamp]:
    """Return the stamps of the parts, in shard order."""
    stamps = [
        (name, one.file_bytes or 0, one.mtime_ns or 0)
        for name, one in of_folder(fs, files.join(root, parts.REGIONS)).items()
        if parts.shard_of(name) is not None
    ]
    return sorted(stamps, key=lambda stamp: parts.shard_of(stamp[0]) or 0)


def _is_reusable(cached: Index | None, empty: Index, stamps: list[Stamp]) -> TypeGuard[Index]:
    """Return whether the output is unchanged, or has only grown, since it was cached."""
    return (
        cached is not None
        and (cached.about, cached.obj_names, cached.attr_names)
        == (empty.about, empty.obj_names, empty.attr_names)
        and set(cached.parts) <= set(stamps)
    )


def _reopen(folder: Path, flat: str, images: int) -> RegionStore:
    """Reopen a pickled store; its row numbers stay valid if the cache has grown meanwhile."""
    index = cache.load_index(folder)
    if index is None or index.flat != flat or index.images < images:
        raise RuntimeError(
            f"the regions in {folder} were replaced while a process that reads them was starting; "
            "start the command again"
        )
    return RegionStore(folder, index)


def _mapped(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of the mapped file as an array; a column with one chunk is not copied."""
    values: np.ndarray = (column.chunk(0) if column.num_chunks == 1 else column).to_numpy()
    return values


def _close(descriptors: dict[str, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)
