"""Stored proposals for many images, from which regions are selected under many settings.

Shapes: N: images; P: proposals in one image; R: selected regions in all images; K: classes.
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
# Detector options that may differ between the collection and a selection from it.
_FREE = {*LIGHT, "device", "batch_size", "features"}


class Candidates:
    """A detector's proposals for N images, as collected by `collect`.

    Pickling includes the overlaps between proposals, so that other processes need not compute them
    again.

    Attributes:
        output: Path of the collection, an output of ``vlray extract``.
        image_ids: Ids of the images in the collection; failed images are left out.
        image_hw: (N, 2) height and width of the original images, in pixels.
        obj_names, attr_names: Names of the classes and attributes, indexed by id.
    """

    def __init__(self, output: RegionOutput, detector: DetectorSection) -> None:
        """Read a collection.

        Args:
            output: Output that was extracted with options from ``collecting``.
            detector: Complete options of the searched detector.

        Raises:
            ValueError: The detector returns no class probabilities, which the selection needs.
        """
        self._detector = detector
        self.output = output.path
        table = pa.Table.from_batches(list(output.iter_batches(_COLUMNS, batch_size=1024)))
        regions = from_table(table)
        if regions.obj_ids is None or regions.obj_probs is None:
            raise ValueError(
                f"{detector.name} returns no classes with probabilities (obj_ids, obj_probs), "
                "which the selection needs; search other options than " + ", ".join(LIGHT)
            )
        self.image_ids: list[str] = table["image_id"].to_pylist()
        self.image_hw: Int32[np.ndarray, "N 2"] = regions.image_hw
        self.obj_names, self.attr_names = output.obj_names, output.attr_names
        offsets = np.concatenate([[0], np.cumsum(regions.num_boxes, dtype=np.int64)])
        self._proposals = Proposals(offsets, regions.boxes, regions.obj_ids, regions.obj_probs)
        self._attr_ids, self._attr_probs = regions.attr_ids, regions.attr_probs
        probs = None
        # vg-caffe selects by the probabilities of all classes, which the collection contains.
        if detector.name == "vg-caffe":
            store = open_store(output.path, Path(output.path) / "unpacked")
            probs = _ClassProbs(store, store.rows(self.image_ids), len(self.obj_names))
        self._rule = rule_of(detector.name, self._proposals, probs)
        self._rule.remember()  # overlaps are computed once, for all settings

    def __repr__(self) -> str:
        count, images = len(self._proposals.boxes), len(self.image_ids)
        return f"Candidates({self.output!r}, {images} images, {count} proposals)"

    def __len__(self) -> int:
        """Return the total number of proposals."""
        return len(self._proposals.boxes)

    def select(self, options: DetectorSection) -> Selection:
        """Select the regions that the detector itself would return, in the same order.

        Args:
            options: Options of the detector. Those that change the proposals must be the same as
                in the collection.

        Raises:
            ValueError: Such an option differs, so new proposals must be collected.
        """
        self._check(options)
        rows, numbers = self._rule.select(options)
        offsets = np.concatenate([[0], np.cumsum(numbers, dtype=np.int64)])
        proposals = self._proposals
        return Selection(
            offsets=offsets,
            boxes=proposals.boxes[rows],
            obj_ids=proposals.obj_ids[rows].astype(np.int32),
            obj_probs=proposals.scores[rows],
            attr_ids=None if self._attr_ids is None else self._attr_ids[rows],
            attr_probs=None if self._attr_probs is None else self._attr_probs[rows],
            rows=rows,
        )

    def write(self, selection: Selection, config: ExtractConfig, output: str) -> None:
        """Write the selected regions as ``vlray extract`` would write them with these settings.

        Parts that an interrupted run has written are kept. Vectors are copied part by part.

        Args:
            selection: Result of ``select`` with the detector options in ``config``.
            config: Settings of ``vlray extract``.
            output: Folder or URI of the new output.

        Raises:
            ValueError: The collection does not have the vectors that ``config`` needs, or the
                output exists with other settings.
        """
        self._check(config.detector)
        write_selected(self.output, self._proposals.offsets, selection, config, output)

    def _check(self, options: DetectorSection) -> None:
        requested, collected = (
            values.model_dump(exclude=_FREE) for values in (settled(options), self._detector)
        )
        for name, value in requested.items():
            if value != collected[name]:
                raise ValueError(
                    f"the proposals in {self.output} were made with {name}={collected[name]!r}, "
                    f"not {value!r}; a selection cannot change that: collect new proposals"
                )


@dataclass(frozen=True)
class _ClassProbs:
    """Reads an image's class probabilities, stored at the start of the collection's vectors."""

    store: RegionStore
    rows: Int64[np.ndarray, " N"]
    classes: int

    def __call__(self, image: int) -> Float32[np.ndarray, "P K"]:
        rows = self.rows[image : image + 1]
        shape = (1, int(self.store.num_boxes[rows[0]]), self.store.feature_dim)
        vectors = np.empty(shape, np.float32)
        self.store.read_feats(rows, vectors)
        return np.ascontiguousarray(vectors[0, :, : self.classes])
