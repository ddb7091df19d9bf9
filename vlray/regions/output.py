"""Read an output folder: iterate over rows, look up images by id, list failures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.reading import describe, list_shards, read_ids, read_rows
from vlray.regions.schema import FAILURES as FAILURES_SCHEMA
from vlray.regions.schema import from_table
from vlray.settings.wording import counted
from vlray.storage import files
from vlray.storage.damage import open_parquet


@dataclass(frozen=True)
class OutputInfo:
    """Content of ``OUT/vlray.json``."""

    dataset: str
    images_root: str
    detector: dict[str, str]
    settings: dict[str, Any]
    vlray_version: str
    schema_version: int


@dataclass(frozen=True)
class RegionOutput:
    """An output of ``vlray extract`` or ``convert``, finished or not; opened by `open_output`.

    >>> output = open_output("out")  # doctest: +SKIP
    >>> output["000000000009"].boxes  # doctest: +SKIP
    """

    path: str
    info: OutputInfo
    obj_names: tuple[str, ...] = field(repr=False)
    attr_names: tuple[str, ...] = field(repr=False)
    _fs: pafs.FileSystem = field(repr=False)
    _root: str = field(repr=False)
    _parts: tuple[int, ...] = field(repr=False)

    def __len__(self) -> int:
        """Return the number of images with a row; failed images have no row."""
        return len(self.image_ids)

    def __contains__(self, image_id: object) -> bool:
        """Return whether an image has a row."""
        return image_id in self._position

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids of all images with a row, as a mapping does."""
        return iter(self.image_ids)

    def __getitem__(self, image_id: str) -> RegionBatch:
        """Read the regions of one image.

        Raises:
            KeyError: The image has no row in the output.
        """
        return from_table(self.read([image_id]))

    @cached_property
    def image_ids(self) -> list[str]:
        """Ids of all images with a row, in file order."""
        return [image_id for ids in self._ids_of_parts for image_id in ids]

    def iter_batches(
        self,
        columns: Sequence[str] | None = None,
        batch_size: int = 64,
        split: str | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yield rows in file order; memory use does not grow with the output.

        Args:
            columns: Columns to read; None: all. Reading is fast without ``visual_feats``.
            batch_size: Maximum number of images in a batch.
            split: Yield only images in this split; None: all splits.
        """
        # The filter needs the column "split"; it is dropped below unless requested.
        names = None if columns is None else list(dict.fromkeys([*columns, "split"]))
        for shard in self._parts:
            with self._open(parts.REGIONS, shard) as part:
                # Only one part is open at a time, and only one batch is in memory.
                for batch in part.iter_batches(batch_size=batch_size, columns=names):
                    rows = batch if split is None else batch.filter(pc.field("split") == split)
                    if rows.num_rows:
                        yield rows if columns is None else rows.select(list(columns))

    def read(self, image_ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Read the rows of images, in the order of ``image_ids``; ids may repeat.

        Raises:
            KeyError: Images have no row; the message names the first three.
        """
        missing = [image_id for image_id in image_ids if image_id not in self._position]
        if missing:
            raise KeyError(
                f"{self.path} lacks {len(missing):,} of the "
                f"{counted(len(image_ids), 'requested image')}, such as {', '.join(missing[:3])}; "
                "failures() lists the images that could not be extracted"
            )
        requests: dict[int, dict[int, list[int]]] = {}  # shard -> row -> indices into image_ids
        for index, image_id in enumerate(image_ids):
            shard, row = self._position[image_id]
            requests.setdefault(shard, {}).setdefault(row, []).append(index)
        tables, order = [], []
        for shard in sorted(requests):
            rows = sorted(requests[shard])
            tables.append(self._read_rows(shard, rows, columns))
            order += [index for row in rows for index in requests[shard][row]]
            # An id that was requested more than once is read once, and repeated here.
            repeats = np.repeat(np.arange(len(rows)), [len(requests[shard][row]) for row in rows])
            tables[-1] = tables[-1].take(repeats)
        if not tables:
            # No ids were requested: return an empty table with the right columns.
            return self._read_rows(self._parts[0], [], columns) if self._parts else pa.table({})
        # ``order`` has the index of each row that was read; argsort inverts it.
        return pa.concat_tables(tables).take(np.argsort(order))

    def failures(self) -> pa.Table:
        """Read the table of failed images: id, path, split, stage, error, reason."""
        shards = list_shards(self._fs, files.join(self._root, parts.FAILURES))
        tables = [FAILURES_SCHEMA.empty_table()]
        for shard in shards:
            with self._open(parts.FAILURES, shard) as part:
                tables.append(part.read().replace_schema_metadata(None))
        return pa.concat_tables(tables)

    @cached_property
    def _ids_of_parts(self) -> list[list[str]]:
        columns = read_ids(self._fs, self._root, self._parts)
        chunks = [chunk for column in columns for chunk in column.chunks]
        parts.check_unique(pa.chunked_array(chunks, pa.string()), self.path)
        return [ids.to_pylist() for ids in columns]

    @cached_property
    def _position(self) -> dict[str, tuple[int, int]]:
        return {
            image_id: (shard, row)
            for shard, ids in zip(self._parts, self._ids_of_parts, strict=True)
            for row, image_id in enumerate(ids)
        }

    def _open(self, folder: str, shard: int) -> AbstractContextManager[pq.ParquetFile]:
        path = files.join(self._root, folder, parts.part_name(shard))
        return open_parquet(self._fs, path, parts.REMOVE)

    def _read_rows(self, shard: int, rows: list[int], columns: Sequence[str] | None) -> pa.Table:
        with self._open(parts.REGIONS, shard) as part:
            return read_rows(part, np.array(rows, np.int64), columns)


def open_output(path: str) -> RegionOutput:
    """Open an output of ``vlray extract`` or ``vlray convert``.

    Args:
        path: A local path or a URI (``s3://...``, ``gs://...``).

    Raises:
        FileNotFoundError: The folder is not a vlray output.
        ValueError: Its small files are damaged or foreign; the message names the file.
    """
    fs, root = files.resolve(path)
    description = describe(fs, root, path)
    if missing := OutputInfo.__dataclass_fields__.keys() - description.about.keys():
        raise ValueError(
            f"{path}: {parts.SETTINGS} has another form: it lacks {', '.join(sorted(missing))}; "
            f"{parts.RESTORE}"
        )
    return RegionOutput(
        path=path,
        info=OutputInfo(
            **{name: description.about[name] for name in OutputInfo.__dataclass_fields__}
        ),
        obj_names=description.obj_names,
        attr_names=description.attr_names,
        _fs=fs,
        _root=root,
        _parts=tuple(list_shards(fs, files.join(root, parts.REGIONS))),
    )
