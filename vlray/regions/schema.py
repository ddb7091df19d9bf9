"""Schema of the regions table: one row per image, in columns that any Parquet reader can read.

Shapes: N: images; R: regions of all N images together; D: feature length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from vlray.regions.batch import RegionBatch

SCHEMA_VERSION = 1

FeatureDtype = Literal["float16", "float32"]

Identity = dict[str, Any]
"""Everything that an output's rows depend on, in plain types, as ``vlray.json`` stores it:
``schema_version``, ``vlray_version``, ``dataset``, ``images_root``, ``detector``, ``settings``, and
``source`` for an imported file."""

Provenance = dict[str, Any]
"""Where regions come from, in plain types; see `vlray.regions.provenance.provenance_of`."""

BOX = pa.list_(pa.float32(), 4)

WIDE = {
    "cls_probs": pa.float16(),
    "top_obj_ids": pa.int32(),
    "top_obj_probs": pa.float16(),
    "top_attr_ids": pa.int32(),
    "top_attr_probs": pa.float16(),
}
"""Columns with several values for each region, which an output has only if they were asked for."""

FAILURES = pa.schema(
    [
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("split", pa.string()),
        # What failed. "read": an image in an imported file; "decode": decoding the image file;
        # "boxes": the image's user boxes are invalid; "detect": the detector raised an error.
        ("stage", pa.string()),
        ("error", pa.string()),
        ("reason", pa.string()),
    ]
)

PLAN = pa.schema(
    [
        ("shard", pa.int32()),
        ("image_id", pa.string()),
        ("path", pa.string()),
        ("split", pa.string()),
    ]
)


def regions_schema(
    feature_dim: int,
    dtype: FeatureDtype = "float16",
    provenance: Mapping[str, object] | None = None,
    wide: Mapping[str, int] | None = None,
) -> pa.Schema:
    """Return the schema of the regions table.

    Args:
        feature_dim: Length D of a feature vector; if 0, there is no column ``visual_feats``.
        dtype: Dtype of the stored vectors.
        provenance: Provenance to store as JSON in the schema's metadata, under ``vlray``.
        wide: Columns of ``WIDE`` that the table has, and their number of values for each region.
    """
    feature = pa.float16() if dtype == "float16" else pa.float32()
    metadata = None if provenance is None else {"vlray": json.dumps(provenance, sort_keys=True)}
    vectors = [("visual_feats", pa.list_(pa.list_(feature, feature_dim)))] if feature_dim else []
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("path", pa.string()),
            ("split", pa.string()),
            ("image_height", pa.int32()),
            ("image_width", pa.int32()),
            ("num_boxes", pa.int32()),
            ("boxes", pa.list_(BOX)),
            *vectors,
            ("obj_ids", pa.list_(pa.int32())),
            ("obj_probs", pa.list_(pa.float32())),
            ("attr_ids", pa.list_(pa.int32())),
            ("attr_probs", pa.list_(pa.float32())),
            *((n, pa.list_(pa.list_(WIDE[n], width))) for n, width in (wide or {}).items()),
        ],
        metadata=metadata,
    )


def to_table(
    batch: RegionBatch,
    image_ids: Sequence[str],
    paths: Sequence[str],
    splits: Sequence[str],
    schema: pa.Schema,
) -> pa.Table:
    """Convert the regions of N images to N rows.

    If the schema stores float16, values beyond its range (65,504) are clipped.

    Raises:
        ValueError: A vector has a non-finite value, or its length differs from the schema's.
    """
    _check_features(batch, image_ids, _feature_dim(schema))
    # All list columns are built from these offsets, without Python lists.
    offsets = np.concatenate([[0], np.cumsum(batch.num_boxes)]).astype(np.int32)
    boxes = pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(batch.boxes, np.float32).reshape(-1)), type=BOX
    )
    columns = {
        "image_id": pa.array(image_ids, pa.string()),
        "path": pa.array(paths, pa.string()),
        "split": pa.array(splits, pa.string()),
        "image_height": pa.array(batch.image_hw[:, 0], pa.int32()),
        "image_width": pa.array(batch.image_hw[:, 1], pa.int32()),
        "num_boxes": pa.array(batch.num_boxes, pa.int32()),
        "boxes": pa.ListArray.from_arrays(offsets, boxes),
        "obj_ids": _lists(batch.obj_ids, offsets, pa.int32()),
        "obj_probs": _lists(batch.obj_probs, offsets, pa.float32()),
        "attr_ids": _lists(batch.attr_ids, offsets, pa.int32()),
        "attr_probs": _lists(batch.attr_probs, offsets, pa.float32()),
    }
    if "visual_feats" in schema.names:
        vectors = _vectors(batch.visual_feats, schema.field("visual_feats").type.value_type)
        columns["visual_feats"] = pa.ListArray.from_arrays(offsets, vectors)
    for name in WIDE.keys() & set(schema.names):
        columns[name] = pa.ListArray.from_arrays(offsets, _wide(batch, name, schema))
    return pa.table([columns[name] for name in schema.names], schema=schema)


def with_tags(table: pa.Table, obj_names: Sequence[str]) -> pa.Table:
    """Add the column ``tags``: the class names of each image's regions, separated by spaces."""
    tags = [" ".join(obj_names[index] for index in ids) for ids in table["obj_ids"].to_pylist()]
    return table.append_column("tags", pa.array(tags, pa.string()))


def from_table(table: pa.Table | pa.RecordBatch) -> RegionBatch:
    """Convert rows to arrays; feature vectors keep their stored dtype.

    If there is no column ``visual_feats``, the vectors have length 0.
    """
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    num_boxes = table["num_boxes"].to_numpy().astype(np.int32)
    regions = int(num_boxes.sum())
    visual_feats = np.zeros((regions, 0), np.float32)
    if feature_dim := _feature_dim(table.schema):
        visual_feats = _flat(table["visual_feats"]).reshape(-1, feature_dim)
    optional: dict[str, np.ndarray | None] = {}
    for name, dtype in _LABEL_COLUMNS.items():
        values = _flat(table[name]).astype(dtype, copy=False)
        # If there are regions, but the column has no values, there are no such labels.
        optional[name] = values if len(values) == regions else None
    for name in WIDE.keys() & set(table.schema.names):
        width = table.schema.field(name).type.value_type.list_size
        optional[name] = _flat(table[name]).reshape(-1, width)
    return RegionBatch(
        image_hw=np.stack(
            [table["image_height"].to_numpy(), table["image_width"].to_numpy()], axis=1
        ).astype(np.int32),
        num_boxes=num_boxes,
        boxes=_flat(table["boxes"]).reshape(-1, 4),
        visual_feats=visual_feats,
        **optional,
    )


_LABEL_COLUMNS = {
    "obj_ids": np.int32,
    "obj_probs": np.float32,
    "attr_ids": np.int32,
    "attr_probs": np.float32,
}


def _feature_dim(schema: pa.Schema) -> int:
    if "visual_feats" not in schema.names:
        return 0
    return int(schema.field("visual_feats").type.value_type.list_size)


def _vectors(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    if pa.types.is_float16(kind.value_type):
        if values.dtype != np.float16:  # float16 values are in range, and clipping them is slow
            limit = np.finfo(np.float16).max
            values = np.clip(values, -limit, limit).astype(np.float16)
    else:
        values = values.astype(np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)


def _wide(batch: RegionBatch, name: str, schema: pa.Schema) -> pa.Array:
    kind = schema.field(name).type.value_type
    values = getattr(batch, name)
    expected = (len(batch.boxes), kind.list_size)
    if values is None or values.shape != expected:
        shape = "missing" if values is None else f"of shape {values.shape}"
        raise ValueError(
            f"{name} is {shape}, but the table expects {expected}; the detector does not support "
            "detector.class_probs or detector.max_attributes: remove the option"
        )
    array = pa.array(values.astype(kind.value_type.to_pandas_dtype()).reshape(-1), kind.value_type)
    return pa.FixedSizeListArray.from_arrays(array, type=kind)


def _check_features(batch: RegionBatch, image_ids: Sequence[str], feature_dim: int) -> None:
    if batch.visual_feats.shape[1:] != (feature_dim,):
        raise ValueError(
            f"visual_feats has shape {batch.visual_feats.shape}, but the table expects vectors of "
            f"length {feature_dim}; set DetectorInfo.feature_dim to the length of the detector's "
            "vectors"
        )
    bad = ~np.isfinite(batch.visual_feats).all(axis=1)
    if bad.any():
        # Find the image that contains the first bad region.
        image = int(np.searchsorted(np.cumsum(batch.num_boxes), bad.argmax(), side="right"))
        raise ValueError(
            f"image {image_ids[image]!r} has a feature vector with a non-finite value; the "
            "weights are damaged, or half precision overflowed"
        )


def _lists(values: np.ndarray | None, offsets: np.ndarray, kind: pa.DataType) -> pa.Array:
    if values is None:
        # Missing labels are stored as an empty list per image.
        return pa.ListArray.from_arrays(np.zeros_like(offsets), pa.array([], kind))
    return pa.ListArray.from_arrays(offsets, pa.array(values, kind))


def _flat(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column's innermost values; nulls would be dropped, but these columns have none."""
    array = column.combine_chunks()
    while pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type):
        array = array.flatten()
    values: np.ndarray = array.to_numpy(zero_copy_only=False)
    return values
