"""Proposals of many images, kept once, from which regions are selected again and again.

Shapes: N images, P proposals of all of them, R regions that are kept of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int32, Int64

from vlray.config.detector import DetectorSection
from vlray.config.extract import ExtractConfig
from vlray.detect.load import settled
from vlray.detect.selection.reselect import LIGHT, rule_of
from vlray.detect.selection.rules import Proposals
from vlray.regions.output import RegionOutput
from vlray.regions.schema import from_table
from vlray.regions.store import RegionStore, open_store
from vlray.tuning.selected import Selection, write_selected

_COLUMNS = (
    "image_id",
    "image_height",
    "image_width",
    "num_boxes",
    "boxes",
    "obj_ids",
    "obj_probs",
    "attr_ids",
    "attr_probs",
)
# What neither selects nor changes a proposal.
_FREE = {*LIGHT, "device", "batch_size", "features"}


class Candidates:
    """The proposals of a detector on N images, ready to be selected from. Made by `collect`.

    It pickles, overlaps included, so that processes need not find these again.

    Attributes:
        output: The collection: an output of vlray.
        image_ids: Of the images that have proposals; failed ones are not among them.
        image_hw: (N, 2) height and width of the original images, pixels.
        obj_names, attr_names: What the ids stand for.
    """

    def __init__(self, output: RegionOutput, detector: DetectorSection) -> None:
        """Read a collection.

        Args:
            output: Made under the options of ``collecting``.
            detector: The options that the collection is for, settled.

        Raises:
            ValueError: The detector gives no scores, which regions are selected by.
        """
        self._detector = detector
        self.output = output.path
        table = pa.Table.from_batches(list(output.iter_batches(_COLUMNS, batch_size=1024)))
        regions = from_table(table)
        if regions.obj_ids is None or regions.obj_probs is None:
            raise ValueError(
                f"{detector.name} gives no classes with probabilities (obj_ids, obj_probs), and "
                "regions are selected by these; search other options than " + ", ".join(LIGHT)
            )
        self.image_ids: list[str] = table["image_id"].to_pylist()
        self.image_hw: Int32[np.ndarray, "N 2"] = regions.image_hw
        self.obj_names, self.attr_names = output.obj_names, output.attr_names
        offsets = np.concatenate([[0], np.cumsum(regions.num_boxes, dtype=np.int64)])
        self._proposals = Proposals(offsets, regions.boxes, regions.obj_ids, regions.obj_probs)
        self._attr_ids, self._attr_probs = regions.attr_ids, regions.attr_probs
        probs = None
        if detector.name == "vg-caffe":
            store = open_store(output.path, Path(output.path) / "unpacked")
            probs = _ClassProbs(store, store.rows(self.image_ids), len(self.obj_names))
        self._rule = rule_of(detector.name, self._proposals, probs)
        self._rule.remember()

    def __repr__(self) -> str:
        count, images = len(self._proposals.boxes), len(self.image_ids)
        return f"Candidates({self.output!r}, {images} images, {count} proposals)"

    def __len__(self) -> int:
        """Give the number of proposals."""
        return len(self._proposals.boxes)

    def select(self, options: DetectorSection) -> Selection:
        """Select regions as the detector itself does: the same ones in the same order.

        Args:
            options: Any ``LIGHT`` ones; the others as they were when the proposals were collected.

        Raises:
            ValueError: Another option differs, which wants proposals of its own.
        """
        self._check(options)
        rows, numbers = self._rule.select(options)
        offsets = np.concatenate([[0], np.cumsum(numbers, dtype=np.int64)])
        found = self._proposals
        return Selection(
            offsets=offsets,
            boxes=found.boxes[rows],
            obj_ids=found.obj_ids[rows].astype(np.int32),
            obj_probs=found.scores[rows],
            attr_ids=None if self._attr_ids is None else self._attr_ids[rows],
            attr_probs=None if self._attr_probs is None else self._attr_probs[rows],
            rows=rows,
        )

    def write(self, selection: Selection, config: ExtractConfig, output: str) -> None:
        """Write selected regions as the output that ``vlray extract`` makes of these settings.

        What a killed run has written stays; vectors are copied part by part.

        Args:
            selection: From ``select`` with the options of ``config``.
            config: Settings of ``vlray extract``.
            output: A folder or URI.

        Raises:
            ValueError: Vectors are wanted which the collection lacks, or the output was made with
                other settings.
        """
        self._check(config.detector)
        write_selected(self.output, self._proposals.offsets, selection, config, output)

    def _check(self, options: DetectorSection) -> None:
        given, own = (
            values.model_dump(exclude=_FREE) for values in (settled(options), self._detector)
        )
        for name, value in given.items():
            if value != own[name]:
                raise ValueError(
                    f"the proposals of {self.output} were made with {name}={own[name]!r}, not "
                    f"{value!r}, and selecting again does not change that; collect others"
                )


@dataclass(frozen=True)
class _ClassProbs:
    """Reads the probabilities of all classes, which the vectors of a collection begin with."""

    store: RegionStore
    rows: Int64[np.ndarray, " N"]
    classes: int

    def __call__(self, image: int) -> Float32[np.ndarray, "P K"]:
        rows = self.rows[image : image + 1]
        shape = (1, int(self.store.num_boxes[rows[0]]), self.store.feature_dim)
        vectors = np.empty(shape, np.float32)
        self.store.read_feats(rows, vectors)
        return np.ascontiguousarray(vectors[0, :, : self.classes])
