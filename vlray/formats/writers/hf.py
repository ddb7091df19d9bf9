"""Writer for a folder that Hugging Face's ``load_dataset`` and the Hub's viewer read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlray.formats.writers.base import Export, State
from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput
from vlray.regions.schema import regions_schema, to_table
from vlray.settings import atomic

_DATA = "data"
_ROWS_PER_GROUP = 32  # images; the viewer reads whole row groups
_BUFFERED = 128  # images in memory
_NAMES = {"obj_ids": "obj_names", "attr_ids": "attr_names"}

Features = dict[str, Any]


class HfExport(Export):
    """Writer for ``data/SPLIT-00000.parquet`` ... and a dataset card, ``README.md``.

    The columns are those of an output, with float32 vectors of fixed length; the ids of classes and
    attributes are ``ClassLabel`` with their names.
    """

    def __init__(
        self, path: Path, output: RegionOutput, image_ids: list[str], state: State | None
    ) -> None:
        """Start or resume an export."""
        selected = set(image_ids)
        self._places: list[tuple[str, str]] = []  # path and split of each image
        for batch in output.iter_batches(["image_id", "path", "split"], batch_size=1 << 14):
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            self._places += [(path_, split) for i, path_, split in rows if i in selected]
        feature_dim = output[image_ids[0]].visual_feats.shape[1]
        plain = regions_schema(feature_dim, "float32")
        self._features = _features(plain, output)
        info = json.dumps({"info": {"features": self._features}})
        self._plain, self._schema = plain, _storage(plain, self._features, info)
        self._folder = path / _DATA
        self._folder.mkdir(parents=True, exist_ok=True)
        self._images = state["images"] if state else 0
        self._parts = state["parts"] if state else 0
        self._tables: dict[str, list[pa.Table]] = {}
        self._buffered = 0
        self._card = path / "README.md"
        self._title = output.info.dataset

    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Take the next image."""
        path, split = self._places[self._images]
        table = to_table(regions, [image_id], [path], [split], self._plain).cast(self._schema)
        self._tables.setdefault(split_name(split), []).append(table)
        self._images += 1
        self._buffered += 1
        if self._buffered == _BUFFERED:
            self._flush()

    def commit(self) -> State:
        """Write the images that are in memory, and return a state to resume from."""
        self._flush()
        return {"images": self._images, "parts": self._parts}

    def finish(self, path: Path) -> None:
        """Write the dataset card, which says where the files of each split are."""
        splits = sorted({split_name(split) for _, split in self._places})
        lines = ["---", "configs:", "- config_name: default", "  data_files:"]
        for split in splits:
            lines += [f"  - split: {split}", f"    path: {_DATA}/{split}-*.parquet"]
        lines += ["---", f"# {self._title}", "", "Region features, exported by vlray.", ""]
        atomic.write(self._card, "\n".join(lines).encode())

    def _flush(self) -> None:
        for split, tables in self._tables.items():
            path = self._folder / f"{split}-{self._parts:05d}.parquet"
            with (
                atomic.replacing(path, exclusive=True) as growing,
                pq.ParquetWriter(growing, self._schema, compression="zstd") as writer,
            ):
                for start in range(0, len(tables), _ROWS_PER_GROUP):
                    rows = pa.concat_tables(tables[start : start + _ROWS_PER_GROUP])
                    writer.write_table(rows)
        self._parts += bool(self._tables)
        self._tables, self._buffered = {}, 0


def split_name(split: str) -> str:
    """Return a split's name as ``datasets`` accepts it: letters, digits and underscores.

    Images without a split, whose split is ``all``, become ``train``, as ``datasets`` calls the only
    split of files without one; ``all`` has another meaning there.
    """
    name = re.sub(r"\W", "_", split, flags=re.ASCII)
    return "train" if name in ("", "all") else name


def _features(schema: pa.Schema, output: RegionOutput) -> Features:
    """Describe the columns in the way of ``datasets``; older versions read this as well."""
    features: Features = {}
    for field in schema:
        feature = _feature(field.type)
        names = getattr(output, _NAMES[field.name]) if field.name in _NAMES else ()
        # ClassLabel needs different names; ids without names stay numbers.
        if names and len(set(names)) == len(names):
            feature = _sequence({"names": list(names), "_type": "ClassLabel"})
        features[field.name] = feature
    return features


def _feature(kind: pa.DataType) -> Features:
    if pa.types.is_fixed_size_list(kind):
        return _sequence(_feature(kind.value_type), kind.list_size)
    if pa.types.is_list(kind):
        return _sequence(_feature(kind.value_type))
    name = {"float": "float32"}.get(str(kind), str(kind))
    return {"dtype": name, "_type": "Value"}


def _sequence(feature: Features, length: int = -1) -> Features:
    return {"feature": feature, "length": length, "_type": "Sequence"}


def _storage(schema: pa.Schema, features: Features, info: str) -> pa.Schema:
    """Return the schema with int64 for ClassLabel, and the description in the metadata."""
    fields = [
        pa.field(field.name, pa.list_(pa.int64()))
        if features[field.name].get("feature", {}).get("_type") == "ClassLabel"
        else field
        for field in schema
    ]
    return pa.schema(fields, metadata={"huggingface": info})
