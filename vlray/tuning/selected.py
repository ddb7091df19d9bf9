"""The regions of many images under one setting, and their output.

Shapes: N images, R regions of all of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from jaxtyping import Float32, Int32, Int64

from vlray.config.extract import ExtractConfig
from vlray.detect.load import detector_class, settled
from vlray.detect.visual_genome.shapes import OBJECTS
from vlray.images.find import Listing
from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.claim import claim
from vlray.regions.lock import only_writer
from vlray.regions.reading import list_shards
from vlray.regions.schema import PLAN, from_table, regions_schema, to_table
from vlray.storage import files
from vlray.stream.identity import defaults, identity_of


@dataclass(frozen=True, eq=False)
class Selection:
    """Regions of N images, flat.

    Attributes:
        offsets: Where each image's regions begin, and at the end R.
        boxes: ``(x1, y1, x2, y2)`` in pixels of the original image.
        obj_ids, obj_probs: Best class of each, and its probability.
        attr_ids, attr_probs: Its attribute; None where the detector has no such head.
        rows: Index of each among the candidates.
    """

    offsets: Int64[np.ndarray, " N1"]
    boxes: Float32[np.ndarray, "R 4"]
    obj_ids: Int32[np.ndarray, " R"]
    obj_probs: Float32[np.ndarray, " R"]
    attr_ids: Int32[np.ndarray, " R"] | None
    attr_probs: Float32[np.ndarray, " R"] | None
    rows: Int64[np.ndarray, " R"]

    def __len__(self) -> int:
        """Give the number of regions."""
        return len(self.rows)

    @property
    def images(self) -> Int64[np.ndarray, " R"]:
        """The image of each region."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def write_selected(
    collection: str,
    offsets: Int64[np.ndarray, " N1"],
    selection: Selection,
    config: ExtractConfig,
    output: str,
) -> None:
    """Write what ``vlray extract`` would write; see ``Candidates.write``.

    Args:
        collection: Where the proposals are.
        offsets: Of its images' proposals.
        selection: What is kept of them.
        config: Settings of the extraction.
        output: Place of the new output.
    """
    from_fs, from_root = files.resolve(collection)
    fs, root = files.resolve(output)
    head = _Head.read(collection, from_fs, from_root)
    identity = head.identity(config)
    schema = head.schema(config, identity)
    with only_writer(fs, root, output):
        claim(fs, root, output, identity, defaults(config))
        labels = files.read_bytes(from_fs, files.join(from_root, parts.LABELS))
        files.write_atomic(fs, files.join(root, parts.LABELS), labels)
        for folder in (parts.PLAN, parts.FAILURES):
            for name in files.list_names(from_fs, files.join(from_root, folder)):
                data = files.read_bytes(from_fs, files.join(from_root, folder, name))
                files.write_atomic(fs, files.join(root, folder, name), data)
        shards = list_shards(from_fs, files.join(from_root, parts.REGIONS))
        for shard in set(list_shards(fs, files.join(root, parts.REGIONS))).difference(shards):
            files.remove(fs, files.join(root, parts.REGIONS, parts.part_name(shard)))
        image = 0
        for shard in shards:
            name = parts.part_name(shard)
            place = files.join(from_root, parts.REGIONS, name)
            count = pq.read_metadata(place, filesystem=from_fs).num_rows
            target = files.join(root, parts.REGIONS, name)
            if parts.read_digests(fs, target) != parts.read_digests(from_fs, place):
                table = pq.read_table(place, filesystem=from_fs)
                kept = _rows_of(table, selection, offsets, image, schema)
                kept = parts.keep_digests(kept, table)
                encoded = parts.encode_regions(kept, config.output.compression)
                files.write_atomic(fs, target, encoded)
            image += count


def _rows_of(
    table: pa.Table,
    selection: Selection,
    offsets: Int64[np.ndarray, " N1"],
    image: int,
    schema: pa.Schema,
) -> pa.Table:
    """Keep the selected proposals of a part whose first image has this number."""
    found = from_table(table)
    ends = selection.offsets[image : image + len(table) + 1]
    rows = selection.rows[ends[0] : ends[-1]] - offsets[image]
    dim = 0
    if "visual_feats" in schema.names:
        dim = schema.field("visual_feats").type.value_type.list_size
    # What stands before a proposal's vector is what it was selected by.
    vectors = found.visual_feats[rows][:, found.visual_feats.shape[1] - dim :]
    labels = {
        name: None if (values := getattr(found, name)) is None else values[rows]
        for name in ("obj_ids", "obj_probs", "attr_ids", "attr_probs")
    }
    batch = RegionBatch(
        image_hw=found.image_hw,
        num_boxes=np.diff(ends).astype(np.int32),
        boxes=found.boxes[rows],
        visual_feats=vectors,
        **labels,
    )
    ids, paths, splits = (table[name].to_pylist() for name in ("image_id", "path", "split"))
    return to_table(batch, ids, paths, splits, schema)


@dataclass(frozen=True)
class _Head:
    """What a collection says of itself.

    Attributes:
        about: What ``vlray.json`` says.
        made_by: What its parts say of the detector.
        collection: Its place.
    """

    about: dict[str, Any]
    made_by: dict[str, Any]
    collection: str

    @classmethod
    def read(cls, collection: str, fs: pafs.FileSystem, root: str) -> _Head:
        about = json.loads(files.read_bytes(fs, files.join(root, parts.SETTINGS)))
        first = parts.part_name(list_shards(fs, files.join(root, parts.REGIONS))[0])
        schema = pq.read_schema(files.join(root, parts.REGIONS, first), filesystem=fs)
        return cls(about, json.loads(schema.metadata[b"vlray"]), collection)

    def identity(self, config: ExtractConfig) -> dict[str, Any]:
        """Give the identity of the output that an extraction makes: images as collected."""
        there = self.about["settings"]
        update = {
            "detector": settled(config.detector),
            "images": config.images.model_copy(
                update={
                    "id_rule": there["images.id_rule"],
                    "max_pixels": there["images.max_pixels"],
                    "dataset": self.about["dataset"],
                }
            ),
            "output": config.output.model_copy(update={"shard_size": there["output.shard_size"]}),
        }
        listing = Listing(self.about["images_root"], self.about["dataset"], PLAN.empty_table())
        return identity_of(config.model_copy(update=update), listing)

    def schema(self, config: ExtractConfig, identity: dict[str, Any]) -> pa.Schema:
        """Give the form of the parts of that output.

        Raises:
            ValueError: It has vectors that the collection lacks, or in a higher precision.
        """
        options, dtype = settled(config.detector), config.output.dtype
        dim = 0
        if options.features == "pooled":
            dim = int(self.made_by["feature_dim"]) - (OBJECTS if options.name == "vg-caffe" else 0)
            there = self.about["settings"]["output.dtype"]
            if dim <= 0 or (there, dtype) == ("float16", "float32"):
                what = f"only {there} ones" if dim > 0 else "none"
                raise ValueError(
                    f"vectors in {dtype} are wanted, and {self.collection} holds {what}; collect "
                    "the proposals with them, or give features=none"
                )
        conventions = dict(self.made_by["conventions"])
        rules = getattr(detector_class(options), "rules", None)
        if "nms_thresh" in conventions and rules is not None:
            conventions["nms_thresh"] = rules(options).nms_thresh
        names = ("detector_name", "weights_sha256", "labels_sha256")
        made_by = {name: self.made_by[name] for name in names}
        made_by |= {"feature_dim": dim, "conventions": conventions}
        return regions_schema(dim, dtype, identity | made_by)
