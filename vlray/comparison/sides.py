"""The two sides of a comparison: open them and determine what can be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pyarrow as pa

from vlray.comparison.metrics import Comparable
from vlray.detect.inputs import explain_input
from vlray.regions.output import RegionOutput, open_output
from vlray.settings.wording import counted
from vlray.storage import files


@dataclass(frozen=True)
class Side:
    """One of the two outputs.

    Attributes:
        letter: ``A`` or ``B``.
        output: The opened output.
        image_ids: Images with a row in the selected splits, in file order.
        schema: Arrow schema of the rows.
    """

    letter: str
    output: RegionOutput
    image_ids: tuple[str, ...]
    schema: pa.Schema

    @property
    def feature_dim(self) -> int:
        """Length of the feature vectors; 0 if the output has only boxes."""
        if "visual_feats" not in self.schema.names:
            return 0
        return int(self.schema.field("visual_feats").type.value_type.list_size)

    @property
    def dtype(self) -> str:
        """Dtype of the feature vectors: ``float16``, ``float32``, or ``none`` with boxes only."""
        if not self.feature_dim:
            return "none"
        kind = self.schema.field("visual_feats").type.value_type.value_type
        return "float16" if pa.types.is_float16(kind) else "float32"

    @cached_property
    def failures(self) -> dict[str, str]:
        """Error and reason of each failed image, keyed by image id."""
        rows = self.output.failures().to_pylist()
        return {row["image_id"]: f"{row['error']}: {row['reason']}" for row in rows}

    @cached_property
    def facts(self) -> dict[str, str]:
        """Provenance of the output, keyed by name: detector, weights, settings, conventions."""
        info = self.output.info
        stored = json.loads((self.schema.metadata or {}).get(b"vlray", b"{}"))
        provenance = {
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
        # These two repeat "detector" and "weights_sha256".
        for name in ("detector name", "detector weights_sha256"):
            provenance.pop(name, None)
        return {name: _plain(value) for name, value in provenance.items()}


def open_side(letter: str, path: str, split: Sequence[str] = (), place: str = "") -> Side:
    """Open one side of the comparison.

    Args:
        letter: ``A`` or ``B``, used in messages.
        path: Folder or URI of the output.
        split: Splits to compare; empty means all.
        place: Folder to read, if it is not the one of this name: an import of it.

    Raises:
        ValueError: The path is not an output of vlray, or no image (in these splits) has regions.
        OSError: The output cannot be read.
    """
    try:
        output = replace(open_output(place or path), path=path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"{letter}: {_explain_not_output(path)}") from error
    # An unfinished extraction may have no rows yet; the first row also carries the schema.
    first = next(output.iter_batches(batch_size=1), None)
    if first is None:
        raise ValueError(
            f"{letter}: {path} contains no regions yet; resume `vlray extract` to complete it, or "
            "read its failures/ folder for the reasons"
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
                for image_id, name in zip(rows["image_id"], rows["split"], strict=True)
                if name in split
            ]
        if not image_ids:
            raise ValueError(
                f"{letter}: {path} has no images in split {', '.join(split)}; choose from: "
                f"{', '.join(sorted(splits))}"
            )
    return Side(letter, output, tuple(image_ids), first.schema)


def differences(a: Side, b: Side) -> list[tuple[str, str, str]]:
    """List the provenance facts that differ: name, value in A, value in B."""
    names = [*a.facts, *(name for name in b.facts if name not in a.facts)]
    rows = ((name, a.facts.get(name, ""), b.facts.get(name, "")) for name in names)
    return [row for row in rows if row[1] != row[2]]


def comparable_columns(a: Side, b: Side) -> tuple[Comparable, dict[str, str]]:
    """Determine which columns can be compared, and why the others cannot.

    Returns:
        The comparable columns, and the reasons, keyed by ``features``, ``classes`` and
        ``attributes``.
    """
    reasons = {}
    if a.feature_dim != b.feature_dim:
        reasons["features"] = f"A has {_vectors(a.feature_dim)}, B has {_vectors(b.feature_dim)}"
    for kind, names in (
        ("classes", (a.output.obj_names, b.output.obj_names)),
        ("attributes", (a.output.attr_names, b.output.attr_names)),
    ):
        # Ids mean the same only if both sides number the same names.
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
    """Explain that the sides have no image in common, with an example id from each."""
    return (
        f"A and B have no image ids in common: A has {counted(len(a.image_ids), 'image')} such as "
        f"{a.image_ids[0]!r}, B has {counted(len(b.image_ids), 'image')} such as "
        f"{b.image_ids[0]!r}. Images are matched by id: make both outputs from the same images, "
        "with the same --id-rule (or, for tables, --images.id-column) in extract and convert"
    )


def _explain_not_output(path: str) -> str:
    """Explain why a path is not an output, and how to get one."""
    fs, root = files.resolve(path)
    kind = fs.get_file_info(root).type.name
    if kind == "NotFound":
        return f"{path} does not exist; pass a folder written by `vlray extract` or `vlray convert`"
    return explain_input(path) or (
        f"{path} is not a vlray output; to compare a file or folder from another tool, convert it "
        f"first: vlray convert {path} NEW_FOLDER"
    )


def _vectors(feature_dim: int) -> str:
    return f"vectors of length {feature_dim}" if feature_dim else "no vectors"


def _names_differ(a: Sequence[str], b: Sequence[str]) -> str:
    if len(a) != len(b):
        return f"A has {len(a) or 'no'} names for the ids, and B has {len(b) or 'none'}"
    index = next(index for index, pair in enumerate(zip(a, b, strict=True)) if pair[0] != pair[1])
    return f"A and B use different names for id {index}: {a[index]!r} and {b[index]!r}"


def _plain(value: object) -> str:
    if isinstance(value, (Mapping, list)):
        return json.dumps(value, sort_keys=True)
    return str(value)
