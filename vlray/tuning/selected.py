"""Regions selected from proposals, and how they are written as an output of ``vlray extract``.

Shapes: N: images; N1: N + 1; R: regions in all images.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from jaxtyping import Float32, Int32, Int64

from vlray.config.extract import ExtractConfig
from vlray.detect.load import detector_class, settled
from vlray.detect.visual_genome.shapes import OBJECTS
from vlray.images.listing import Listing
from vlray.regions import parts
from vlray.regions.batch import RegionBatch
from vlray.regions.claim import claim
from vlray.regions.lock import only_writer
from vlray.regions.reading import list_shards
from vlray.regions.schema import PLAN, Identity, Provenance, from_table, regions_schema, to_table
from vlray.storage import files
from vlray.stream.identity import defaults, identity_of


@dataclass(frozen=True, eq=False)
class Selection:
    """Selected regions of N images, concatenated.

    Attributes:
        offsets: Index of each image's first region, followed by R.
        boxes: ``(x1, y1, x2, y2)`` in pixels of the original image.
        obj_ids, obj_probs: Most probable class of each region, and the probability.
        attr_ids, attr_probs: Most probable attribute of each region, and the probability; None if
            the detector predicts no attributes.
        rows: Index of each region among the proposals of all images.
    """

    offsets: Int64[np.ndarray, " N1"]
    boxes: Float32[np.ndarray, "R 4"]
    obj_ids: Int32[np.ndarray, " R"]
    obj_probs: Float32[np.ndarray, " R"]
    attr_ids: Int32[np.ndarray, " R"] | None
    attr_probs: Float32[np.ndarray, " R"] | None
    rows: Int64[np.ndarray, " R"]

    def __len__(self) -> int:
        """Return the total number of regions."""
        return len(self.rows)

    @property
    def images(self) -> Int64[np.ndarray, " R"]:
        """Index of the image that each region belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def write_selected(
    collection: str,
    offsets: Int64[np.ndarray, " N1"],
    selection: Selection,
    config: ExtractConfig,
    output: str,
) -> None:
    """Write a selection as ``vlray extract`` would write it; see ``Candidates.write``.

    Args:
        collection: Path of the collection that has the proposals.
        offsets: Index of each image's first proposal, followed by the total number of proposals.
        selection: The regions to write.
        config: Settings of the extraction.
        output: Folder or URI of the new output.
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
        # Remove parts that the collection does not have, left by an interrupted run.
        for shard in set(list_shards(fs, files.join(root, parts.REGIONS))).difference(shards):
            files.remove(fs, files.join(root, parts.REGIONS, parts.part_name(shard)))
        image = 0
        for shard in shards:
            name = parts.part_name(shard)
            source = files.join(from_root, parts.REGIONS, name)
            count = pq.read_metadata(source, filesystem=from_fs).num_rows
            target = files.join(root, parts.REGIONS, name)
            # Parts are written atomically, so a part from an interrupted run is complete. It is
            # kept unless its images have changed.
            if parts.read_digests(fs, target) != parts.read_digests(from_fs, source):
                table = pq.read_table(source, filesystem=from_fs)
                regions = _rows_of(table, selection, offsets, image, schema)
                regions = parts.keep_digests(regions, table)
                encoded = parts.encode_regions(regions, config.output.compression)
                files.write_atomic(fs, target, encoded)
            image += count


def _rows_of(
    table: pa.Table,
    selection: Selection,
    offsets: Int64[np.ndarray, " N1"],
    image: int,
    schema: pa.Schema,
) -> pa.Table:
    """Return the selected rows of a part.

    Args:
        table: The part of the collection, with one row per image.
        selection: The regions selected from the whole collection.
        offsets: Index of each image's first proposal, followed by the total number of proposals.
        image: Index of the part's first image.
        schema: Schema of the new output's parts.
    """
    proposals = from_table(table)
    ends = selection.offsets[image : image + len(table) + 1]
    # ``rows`` counts the proposals of all images; the part begins with its own.
    rows = selection.rows[ends[0] : ends[-1]] - offsets[image]
    dim = 0
    if "visual_feats" in schema.names:
        dim = schema.field("visual_feats").type.value_type.list_size
    # In collections for vg-caffe, class probabilities precede the vector; keep only the vector.
    vectors = proposals.visual_feats[rows][:, proposals.visual_feats.shape[1] - dim :]
    labels = {
        name: None if (values := getattr(proposals, name)) is None else values[rows]
        for name in ("obj_ids", "obj_probs", "attr_ids", "attr_probs")
    }
    batch = RegionBatch(
        image_hw=proposals.image_hw,
        num_boxes=np.diff(ends).astype(np.int32),
        boxes=proposals.boxes[rows],
        visual_feats=vectors,
        **labels,
    )
    ids, paths, splits = (table[name].to_pylist() for name in ("image_id", "path", "split"))
    return to_table(batch, ids, paths, splits, schema)


@dataclass(frozen=True)
class _Head:
    """Metadata of a collection.

    Attributes:
        about: Content of ``vlray.json``.
        made_by: Metadata about the detector, from the schema of the parts.
        collection: Path of the collection.
    """

    about: Identity
    made_by: Provenance
    collection: str

    @classmethod
    def read(cls, collection: str, fs: pafs.FileSystem, root: str) -> _Head:
        about = json.loads(files.read_bytes(fs, files.join(root, parts.SETTINGS)))
        first = parts.part_name(list_shards(fs, files.join(root, parts.REGIONS))[0])
        schema = pq.read_schema(files.join(root, parts.REGIONS, first), filesystem=fs)
        return cls(about, json.loads(schema.metadata[b"vlray"]), collection)

    def identity(self, config: ExtractConfig) -> Identity:
        """Return the identity of an output with these settings and the collection's images."""
        collected = self.about["settings"]
        update = {
            "detector": settled(config.detector),
            "images": config.images.model_copy(
                update={
                    "id_rule": collected["images.id_rule"],
                    "max_pixels": collected["images.max_pixels"],
                    "dataset": self.about["dataset"],
                }
            ),
            "output": config.output.model_copy(
                update={"shard_size": collected["output.shard_size"]}
            ),
        }
        listing = Listing(self.about["images_root"], self.about["dataset"], PLAN.empty_table())
        return identity_of(config.model_copy(update=update), listing)

    def schema(self, config: ExtractConfig, identity: Identity) -> pa.Schema:
        """Return the schema for the parts of the new output.

        Raises:
            ValueError: The output needs vectors, but the collection has none, or has them only in
                a lower precision.
        """
        options, dtype = settled(config.detector), config.output.dtype
        dim = 0
        if options.features != "none":
            # In a collection for vg-caffe, each vector begins with the class probabilities.
            dim = int(self.made_by["feature_dim"]) - (OBJECTS if options.name == "vg-caffe" else 0)
            stored_dtype = self.about["settings"]["output.dtype"]
            if dim <= 0 or (stored_dtype, dtype) == ("float16", "float32"):
                stored = f"only {stored_dtype} vectors" if dim > 0 else "no vectors"
                raise ValueError(
                    f"the output needs {dtype} vectors, but {self.collection} has {stored}; "
                    "collect the proposals with them, or pass features=none"
                )
        conventions = dict(self.made_by["conventions"])
        rules = getattr(detector_class(options), "rules", None)
        # The collection was made with another NMS threshold; record the selection's.
        if "nms_thresh" in conventions and rules is not None:
            conventions["nms_thresh"] = rules(options).nms_thresh
        names = ("detector_name", "weights_sha256", "labels_sha256")
        made_by = {name: self.made_by[name] for name in names}
        made_by |= {"feature_dim": dim, "conventions": conventions}
        return regions_schema(dim, dtype, identity | made_by)
