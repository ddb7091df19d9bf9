"""Random access to the regions of an output, for training: as quick as memory, without taking any.

Shapes: N images, R regions per image, padding included, K regions, D feature length.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
from jaxtyping import Float32, Int32, Int64, Num

from vlray.regions import cache, parts, unpack
from vlray.regions.cache import Index, Stamp
from vlray.regions.reading import describe
from vlray.storage import files
from vlray.storage.fingerprint import of_folder


class RegionStore:
    """The regions of an output by row. Made by `open_store`.

    Vectors are read from the file into the caller's array: a process keeps none of them, and the
    system's page cache, which all processes share, keeps as many as there is room for. Any number
    of threads may read at once. It pickles: another process opens the same files.

    >>> store = open_store("out", Path("cache"))  # doctest: +SKIP
    >>> feats = np.empty((2, 36, store.feature_dim), store.feature_dtype)  # doctest: +SKIP
    >>> store.read_feats(store.rows(["9", "25"]), feats)  # doctest: +SKIP

    Attributes:
        output: The place of the output.
        feature_dim: Length D of a vector; 0: the output has none.
        feature_dtype: Of the stored vectors, float16 or float32.
        obj_names, attr_names: What the ids of ``read_labels`` stand for.
    """

    def __init__(self, folder: Path, index: Index) -> None:
        """Open the files of the cache that an index speaks of."""
        self._folder, self._index = folder, index
        self.output = index.output
        self.feature_dim = index.feature_dim
        self.feature_dtype = np.dtype(index.feature_dtype)
        self.obj_names, self.attr_names = index.obj_names, index.attr_names
        self._images = cache.load_images(folder, index.table)
        self._descriptors: dict[str, int] = {}
        weakref.finalize(self, _close, self._descriptors)
        for name in index.flat_sizes():
            self._descriptors[Path(name).suffix[1:]] = os.open(folder / name, os.O_RDONLY)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the place alone."""
        return _reopen, (self._folder, self._index.flat, self._index.images)

    def __repr__(self) -> str:
        count, dim, dtype = len(self), self.feature_dim, self.feature_dtype
        return f"RegionStore({self.output!r}, {count} images, vectors of {dim} {dtype})"

    def __len__(self) -> int:
        """Give the number of images."""
        return self._index.images

    @property
    def image_ids(self) -> pa.ChunkedArray:
        """Ids of the images, in the order of the rows."""
        return self._images["image_id"]

    @cached_property
    def num_boxes(self) -> Int32[np.ndarray, N]:
        """Regions of each image."""
        return _mapped(self._images["num_boxes"])

    @cached_property
    def image_hw(self) -> Int32[np.ndarray, "N 2"]:
        """Height and width of each original image, pixels."""
        chunks = self._images["image_hw"].chunks
        return _mapped(pa.chunked_array([c.flatten() for c in chunks], pa.int32())).reshape(-1, 2)

    @cached_property
    def _first(self) -> Int64[np.ndarray, N]:
        return _mapped(self._images["first"])

    @property
    def provenance(self) -> dict[str, Any]:
        """What made the regions: ``vlray.json``, and what the parts say of the detector."""
        return {**self._index.about, **self._index.provenance}

    def rows(self, image_ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> Int64[np.ndarray, M]:
        """Find images by their ids, all at once: each call looks at all ids of the output.

        Returns:
            The row of each; -1 where the output has no such image.
        """
        if not isinstance(image_ids, pa.Array | pa.ChunkedArray):
            image_ids = pa.array(image_ids, pa.string())
        found = pc.fill_null(pc.index_in(image_ids, value_set=self.image_ids), -1)
        rows: np.ndarray = found.to_numpy().astype(np.int64)
        return rows

    def read_feats(self, rows: Int64[np.ndarray, N], out: Num[np.ndarray, "N R D"]) -> None:
        """Read the vectors of images into an array.

        Args:
            rows: Of the images.
            out: Filled, in the stored dtype. Of images with more than R regions the first R are
                read; behind those of images with fewer there are zeros.

        Raises:
            ValueError: The array is of another form, or a row is not there.
        """
        self._read("feats", rows, out, (self.feature_dim,), self.feature_dtype)

    def read_boxes(self, rows: Int64[np.ndarray, N], out: Float32[np.ndarray, "N R 4"]) -> None:
        """Read the boxes of images, ``x1, y1, x2, y2`` in pixels, as ``read_feats`` does."""
        self._read("boxes", rows, out, (4,), np.dtype(np.float32))

    def read_labels(self, rows: Int64[np.ndarray, N], num_regions: int) -> dict[str, np.ndarray]:
        """Read the classes and attributes of images.

        Returns:
            ``obj_ids``, ``obj_probs``, ``attr_ids`` and ``attr_probs``, those that the output
            has: (N, num_regions) each. Where there is no region, or it has no such label, the id
            is -1 and the probability 0.
        """
        out = np.empty((len(rows), num_regions), cache.LABEL)
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
        """Read single vectors.

        Args:
            rows: The image of each.
            regions: Its index among the regions of that image.

        Raises:
            ValueError: An image has no such region.
        """
        self._check_rows(rows)
        regions = np.asarray(regions)
        bad = (regions < 0) | (regions >= self.num_boxes[rows])
        if bad.any():
            at = int(bad.argmax())
            raise ValueError(
                f"region {regions[at]} of row {rows[at]} was asked for, but that image has "
                f"{self.num_boxes[rows[at]]}"
            )
        out = np.empty((len(rows), self.feature_dim), self.feature_dtype)
        for values, region in zip(out, (self._first[rows] + regions).tolist(), strict=True):
            self._fill("feats", values, region * values.nbytes)
        return out

    def _read(
        self, kind: str, rows: np.ndarray, out: np.ndarray, shape: tuple[int, ...], dtype: np.dtype
    ) -> None:
        self._check_rows(rows)
        wanted = (len(rows), *out.shape[1:2], *shape)
        if out.shape != wanted or out.dtype != dtype or not out.flags.c_contiguous:
            raise ValueError(
                f"{kind} of {len(rows)} images were asked for in an array of {out.dtype} "
                f"{out.shape}; give one of {dtype} {('N', 'R', *shape)}, in C's order"
            )
        width = dtype.itemsize * int(np.prod(shape))
        counts = np.minimum(self.num_boxes[rows], out.shape[1]).tolist()
        places = (self._first[rows] * width).tolist()
        for values, count, place in zip(out, counts, places, strict=True):
            if count < len(values):
                values[count:] = 0
            if count and width:
                self._fill(kind, values[:count], place)

    def _fill(self, kind: str, values: np.ndarray, place: int) -> None:
        data = values.reshape(-1).view(np.uint8).data
        done = os.preadv(self._descriptors[kind], [data], place)
        while done < len(data):  # a signal came, or a file system gives less at a time
            more = os.preadv(self._descriptors[kind], [data[done:]], place + done)
            if not more:
                raise OSError(
                    f"{self._folder / self._index.flat}.{kind} has been cut short; delete the "
                    "folder, and it is made again"
                )
            done += more

    def _check_rows(self, rows: np.ndarray) -> None:
        bad = (rows < 0) | (rows >= len(self))
        if bad.any():
            raise ValueError(
                f"row {rows[bad.argmax()]} was asked for, but {self.output} has {len(self)} "
                "images; rows() gives -1 for images that it does not have"
            )


def open_store(output: str, cache_dir: Path) -> RegionStore:
    """Open an output for random access; the first time, its regions are unpacked.

    A growing output's new parts are appended when it is opened again, behind the rows that were
    there; a changed output is unpacked anew. One process unpacks, others wait for it.

    Args:
        output: A local path or a URI (``s3://...``, ``gs://...``).
        cache_dir: Local folder for what is unpacked: as large as the vectors are.

    Raises:
        FileNotFoundError: There is no output at this place.
        ValueError: Its parts are not of one form.
        OSError: The cache cannot be written to, or the disk is too full for it.
    """
    fs, root = files.resolve(output)
    folder = cache.folder_of(cache_dir, fs, root, output)
    found = describe(fs, root, output)
    expected = Index(output, found.about, obj_names=found.obj_names, attr_names=found.attr_names)
    stamps = _stamps(fs, root)
    there = cache.load_index(folder)
    if _goes_on(there, expected, stamps) and len(there.parts) == len(stamps):
        try:
            return RegionStore(folder, there)
        except FileNotFoundError:  # another process has just replaced it
            pass
    with cache.only_builder(folder):
        there = cache.load_index(folder)
        cache.remove_strangers(folder, there)
        begun = there if _goes_on(there, expected, stamps) else expected
        known = set(begun.parts)
        new = [stamp for stamp in stamps if stamp not in known]
        if new or begun is expected:
            begun = unpack.unpack(fs, root, folder, begun, new)
            cache.save_index(folder, begun)
        return RegionStore(folder, begun)


def _stamps(fs: pafs.FileSystem, root: str) -> list[Stamp]:
    """List the parts, in the order of their shards."""
    stamps = [
        (name, one.file_bytes or 0, one.mtime_ns or 0)
        for name, one in of_folder(fs, files.join(root, parts.REGIONS)).items()
        if parts.shard_of(name) is not None
    ]
    return sorted(stamps, key=lambda stamp: parts.shard_of(stamp[0]) or 0)


def _goes_on(there: Index | None, expected: Index, stamps: list[Stamp]) -> TypeGuard[Index]:
    """Tell an output that has grown, or is as it was, from one that has changed."""
    return (
        there is not None
        and (there.about, there.obj_names, there.attr_names)
        == (expected.about, expected.obj_names, expected.attr_names)
        and set(there.parts) <= set(stamps)
    )


def _reopen(folder: Path, flat: str, images: int) -> RegionStore:
    """Open a pickled store; rows keep their numbers while an output grows."""
    index = cache.load_index(folder)
    if index is None or index.flat != flat or index.images < images:
        raise RuntimeError(
            f"the regions in {folder} were replaced while a process was starting that reads them; "
            "start again"
        )
    return RegionStore(folder, index)


def _mapped(column: pa.ChunkedArray) -> np.ndarray:
    """Give the values of a column of the mapped file; of its one chunk, without a copy."""
    values: np.ndarray = (column.chunk(0) if column.num_chunks == 1 else column).to_numpy()
    return values


def _close(descriptors: dict[str, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)
