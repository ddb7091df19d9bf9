"""The two outputs: open them, and find out what can be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from vlray.comparison.metrics import Comparable
from vlray.detect.inputs import explain_input
from vlray.regions.output import RegionOutput, open_output
from vlray.storage import files


@dataclass(frozen=True)
class Side:
    """One of the two outputs.

    Attributes:
        letter: ``A`` or ``B``.
        output: The output itself.
        image_ids: Images that have a row, of the wanted splits, in the order of the files.
        schema: Of its rows.
    """

    letter: str
    output: RegionOutput
    image_ids: tuple[str, ...]
    schema: pa.Schema

    @property
    def feature_dim(self) -> int:
        """Length of its vectors; 0 where there are only boxes."""
        if "visual_feats" not in self.schema.names:
            return 0
        return int(self.schema.field("visual_feats").type.value_type.list_size)

    @property
    def dtype(self) -> str:
        """Dtype of its vectors: float16, float32, or none where there are only boxes."""
        if not self.feature_dim:
            return "none"
        kind = self.schema.field("visual_feats").type.value_type.value_type
        return "float16" if pa.types.is_float16(kind) else "float32"

    @cached_property
    def failures(self) -> dict[str, str]:
        """What became of the images that failed, by id."""
        rows = self.output.failures().to_pylist()
        return {row["image_id"]: f"{row['error']}: {row['reason']}" for row in rows}

    @cached_property
    def facts(self) -> dict[str, str]:
        """What it says about its origin, by name: detector, weights, settings, conventions."""
        info = self.output.info
        stored = json.loads((self.schema.metadata or {}).get(b"vlray", b"{}"))
        origin = {
            "dataset": info.dataset,
            "images": info.images_root,
            "vlray": info.vlray_version,
            "detector": info.detector.get("name", ""),
            **{f"detector {name}": value for name, value in info.detector.items()},
            "weights_sha256": stored.get("weights_sha256", info.detector.get("weights_sha256", "")),
            "feature length": self.feature_dim,
            "feature dtype": self.dtype,
            **info.settings,
            **{
                f"convention {name}": value for name, value in stored.get("conventions", {}).items()
            },
        }
        for name in ("detector name", "detector weights_sha256"):  # these are there already
            origin.pop(name, None)
        return {name: _plain(value) for name, value in origin.items()}


def open_side(letter: str, path: str, split: Sequence[str] = ()) -> Side:
    """Open one of the two outputs.

    Args:
        letter: ``A`` or ``B``, for messages.
        path: Folder or URI.
        split: Only images of these splits; empty means all.

    Raises:
        ValueError: It is no output of vlray, or has no image (of these splits).
        OSError: It cannot be read.
    """
    try:
        output = open_output(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{letter}: {_no_output(path)}") from error
    first = next(output.iter_batches(batch_size=1), None)
    if first is None:
        raise ValueError(
            f"{letter}: {path} has no image with regions yet; finish it with `vlray extract`, or "
            "look into its failures/"
        )
    if not split:
        image_ids = output.image_ids
    else:
        image_ids, splits = [], set()
        for batch in output.iter_batches(["image_id", "split"], batch_size=4096):
            rows = batch.to_pydict()
            splits |= set(rows["split"])
            image_ids += [
                image_id
                for image_id, own in zip(rows["image_id"], rows["split"], strict=True)
                if own in split
            ]
        if not image_ids:
            raise ValueError(
                f"{letter}: no image of {path} is of split {', '.join(map(repr, split))}; its "
                f"splits are {sorted(splits)}"
            )
    return Side(letter, output, tuple(image_ids), first.schema)


def differences(a: Side, b: Side) -> list[tuple[str, str, str]]:
    """List by name where the origins differ: name, what A says, what B says."""
    names = [*a.facts, *(name for name in b.facts if name not in a.facts)]
    rows = ((name, a.facts.get(name, ""), b.facts.get(name, "")) for name in names)
    return [row for row in rows if row[1] != row[2]]


def what_compares(a: Side, b: Side) -> tuple[Comparable, dict[str, str]]:
    """Find out what both outputs have alike, and say why the rest cannot be compared.

    Returns:
        What to compare, and the reasons by ``features``, ``classes`` and ``attributes``.
    """
    reasons = {}
    if a.feature_dim != b.feature_dim:
        reasons["features"] = f"A's vectors are {_long(a.feature_dim)}, B's {_long(b.feature_dim)}"
    for kind, names in (
        ("classes", (a.output.obj_names, b.output.obj_names)),
        ("attributes", (a.output.attr_names, b.output.attr_names)),
    ):
        if names[0] != names[1]:
            reasons[kind] = _names_differ(*names)
    comparable = Comparable(
        features="features" not in reasons and a.feature_dim > 0,
        objects="classes" not in reasons,
        attributes="attributes" not in reasons,
        all=not reasons,
    )
    return comparable, reasons


def explain_disjoint(a: Side, b: Side) -> str:
    """Say that no image is on both sides, with ids that show why."""
    return (
        f"no image is in both outputs: A has {len(a.image_ids):,} such as {a.image_ids[0]!r}, "
        f"B has {len(b.image_ids):,} such as {b.image_ids[0]!r}; images are joined by their ids, "
        "so make both with the same --id-rule (of extract and of convert), of the same images"
    )


def _no_output(path: str) -> str:
    fs, root = files.resolve(path)
    kind = fs.get_file_info(root).type.name
    if kind == "NotFound":
        return f"there is nothing at {path}; give the folder that `vlray extract` wrote"
    return explain_input(path) or (
        f"{path} is no output of vlray; bring another tool's file or folder into one first: "
        f"vlray convert {path} NEW_FOLDER"
    )


def _long(feature_dim: int) -> str:
    return f"{feature_dim} long" if feature_dim else "not there"


def _names_differ(a: Sequence[str], b: Sequence[str]) -> str:
    if len(a) != len(b):
        return f"A has {len(a) or 'no'} names for them, B {len(b) or 'none'}"
    index = next(index for index, pair in enumerate(zip(a, b, strict=True)) if pair[0] != pair[1])
    return f"A and B name id {index} differently: {a[index]!r} and {b[index]!r}"


def _plain(value: Any) -> str:
    if isinstance(value, (Mapping, list)):
        return json.dumps(value, sort_keys=True)
    return str(value)
