"""Write the shards of an imported output, and read back the shards from earlier runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import pyarrow as pa
import pyarrow.fs as pafs

from vlray.formats.flags import FLAGS, Flag
from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.reading import read_labels
from vlray.regions.schema import FAILURES, PLAN, FeatureDtype, Identity, regions_schema, to_table
from vlray.storage import files
from vlray.storage.damage import open_parquet


@dataclass(eq=False)
class Shard:
    """Consecutive images from a file, to be written as one shard.

    Attributes:
        number: Number of the shard.
        begin: Position of the first image, in the reader's unit.
        end: Position after the last image.
        rows: Image id, path, split and regions of each valid image.
        failures: Failed images, as rows with the schema `FAILURES`.
        flags: Pairs of image id and flag.
        plan: Image id, path and split of each image whose id did not occur before.
        labels: Object names and attribute names so far, indexed by id.
    """

    number: int
    begin: int
    end: int = 0
    rows: list[tuple[str, str, str, RegionBatch]] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    flags: list[tuple[str, Flag]] = field(default_factory=list)
    plan: list[tuple[str, str, str]] = field(default_factory=list)
    labels: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))

    def __len__(self) -> int:
        """Return the number of images, including failures."""
        return len(self.rows) + len(self.failures)


@dataclass(frozen=True)
class StoredShard:
    """A shard that an earlier run wrote.

    Attributes:
        begin: Position of the first image in the source.
        end: Position after the last image.
        image_ids: Ids of the images with a row.
        planned: Image ids in the shard's plan, including failed images.
    """

    begin: int
    end: int
    image_ids: list[str]
    planned: list[str]


@dataclass(frozen=True)
class ShardWriter:
    """Writer for shards, one after the other; each file is written atomically.

    As in an extraction, the regions file is written last and marks the shard as done. Its metadata
    holds the shard's start and end positions in the source, so that the next run can seek.
    """

    fs: pafs.FileSystem
    root: str
    identity: Identity
    feature_dim: int
    dtype: FeatureDtype

    def stored(self, number: int) -> StoredShard | None:
        """Read the positions and ids of a shard from an earlier run; None if it is not done."""
        path = self._path(parts.REGIONS, parts.part_name(number))
        if self.fs.get_file_info(path).type != pafs.FileType.File:
            return None
        with open_parquet(self.fs, path, parts.REMOVE) as part:
            about = json.loads((part.schema_arrow.metadata or {}).get(b"vlray", b"{}"))
            begin, end = about["source"]
            ids = part.read(columns=["image_id"])["image_id"].to_pylist()
        plan = self._path(parts.PLAN, _plan_name(number))
        with open_parquet(self.fs, plan, f"remove {path} and run the command again") as part:
            planned = part.read(columns=["image_id"])["image_id"].to_pylist()
        return StoredShard(begin, end, ids, planned)

    def write(self, shard: Shard) -> int:
        """Write a shard, and return the size of the regions file in bytes."""
        name = parts.part_name(shard.number)
        flags = [(image_id, flag.flag, flag.detail) for image_id, flag in shard.flags]
        # Write everything else before the regions, which mark the shard as done.
        self._put(parts.FLAGS, name, _table(flags, FLAGS))
        rows = [tuple(row[column] for column in FAILURES.names) for row in shard.failures]
        self._put(parts.FAILURES, name, _table(rows, FAILURES))
        plan = [(shard.number, *row) for row in shard.plan]
        self._put(parts.PLAN, _plan_name(shard.number), _table(plan, PLAN))
        self.write_labels(*shard.labels)
        encoded = parts.encode_regions(self._regions(shard), "zstd")
        files.write_atomic(self.fs, self._path(parts.REGIONS, name), encoded)
        return int(encoded.size)

    def write_labels(self, objects: list[str], attributes: list[str]) -> None:
        """Write the names of the ids, unless the file has them already."""
        path = self._path(parts.LABELS)
        labels = {"obj_names": objects, "attr_names": attributes}
        data = json.dumps(labels, ensure_ascii=False, indent=1).encode()
        try:
            if files.read_bytes(self.fs, path) == data:
                return
        except FileNotFoundError:
            pass
        files.write_atomic(self.fs, path, data)

    def labels(self) -> tuple[list[str], list[str]] | None:
        """Read the names that were written with earlier shards; None if there are no shards."""
        if self.stored(0) is None:
            return None
        return read_labels(self.fs, self._path(parts.LABELS))

    def _path(self, *names: str) -> str:
        return files.join(self.root, *names)

    def _put(self, folder: str, name: str, table: pa.Table) -> None:
        """Write a shard's table; if it is empty, remove the file from an earlier attempt instead.

        An empty plan is written too, since `stored` reads it.
        """
        path = self._path(folder, name)
        if table.num_rows or folder == parts.PLAN:
            files.write_atomic(self.fs, path, parts.encode_plain(table))
        else:
            files.remove(self.fs, path)

    def _regions(self, shard: Shard) -> pa.Table:
        provenance = self.identity | {"source": [shard.begin, shard.end]}
        schema = regions_schema(self.feature_dim, self.dtype, provenance)
        tables = [schema.empty_table()]
        # One image may lack labels that others have, and a RegionBatch needs the same columns
        # for all images, so consecutive images with the same columns are converted together.
        for _, group in groupby(shard.rows, key=lambda row: _heads(row[3])):
            ids, paths, splits, regions = zip(*group, strict=True)
            tables.append(to_table(RegionBatch.concat(regions), ids, paths, splits, schema))
        return pa.concat_tables(tables).combine_chunks()


def _heads(regions: RegionBatch) -> tuple[bool, ...]:
    columns = regions.obj_ids, regions.obj_probs, regions.attr_ids, regions.attr_probs
    return tuple(values is None for values in columns)


def _plan_name(number: int) -> str:
    return f"plan-{number:05d}.parquet"


def _table(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    # Without rows, zip returns no columns.
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    return pa.table(arrays, schema=schema)
