"""Writer for the HDF5 rows of BUTD-VQA (a fixed number of boxes) and of BAN (any number).

Shapes: N: images; R: regions in one image; S: regions in all images; D: feature length.

Source:
    hengyuan-hu/bottom-up-attention-vqa, tools/detection_features_converter.py;
    jnhwkim/ban-vqa, tools/adaptive_detection_features_converter.py.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np

from vlray.formats.writers.base import State, number_problem
from vlray.formats.writers.hdf5 import Hdf5Base, allocate, rows_without_vectors
from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput
from vlray.settings import atomic

_INDEX = "_imgid2idx.pkl"


class ButdExport(Hdf5Base):
    """Writer for ``image_features``, ``image_bb`` and ``spatial_features``.

    If all images have the same number of regions, the arrays are (N, R, ...), otherwise (S, ...)
    with the bounds of each image's rows in ``pos_boxes``. The pickle ``OUT_imgid2idx.pkl`` maps
    image ids to indices along N.
    """

    suffixes: ClassVar[tuple[str, ...]] = (_INDEX,)

    def __init__(
        self, path: Path, output: RegionOutput, image_ids: list[str], state: State | None
    ) -> None:
        """Create and preallocate the file, or resume an export."""
        self._image_ids = image_ids
        super().__init__(path, output, image_ids, state)
        self._is_fixed = "pos_boxes" not in self._file

    @staticmethod
    def problem(image_id: str) -> str:
        """Accept every id, as the ids are keys of a dictionary."""
        return ""

    def allocate(self, file: h5py.File, output: RegionOutput, image_ids: list[str]) -> None:
        """Write boxes and positions, and allocate the vectors."""
        counts = np.array(
            [len(regions.boxes) for _, regions in rows_without_vectors(output, image_ids)], np.int64
        )
        is_fixed = counts.min() == counts.max() > 0
        stops = np.cumsum(counts)
        rows = (len(counts), int(counts[0])) if is_fixed else (int(stops[-1]),)
        feature_dim = output[image_ids[0]].visual_feats.shape[1]
        for name, width in (("image_features", feature_dim), ("image_bb", 4)):
            allocate(file, name, (*rows, width))
        allocate(file, "spatial_features", (*rows, 6))
        if not is_fixed:
            file["pos_boxes"] = np.stack([stops - counts, stops], axis=1).astype(np.int32)
        for index, (_, regions) in enumerate(rows_without_vectors(output, image_ids)):
            place = index if is_fixed else slice(stops[index] - counts[index], stops[index])
            if counts[index]:
                file["image_bb"][place] = regions.boxes
                file["spatial_features"][place] = _spatial(regions)

    def fill(self, file: h5py.File, image_id: str, regions: RegionBatch) -> None:
        """Write the vectors of one image."""
        place = self._images if self._is_fixed else slice(*file["pos_boxes"][self._images])
        file["image_features"][place] = regions.visual_feats.astype(np.float32)

    def finish(self, path: Path) -> None:
        """Write the dictionary from image ids to indices; ids that are numbers become integers."""
        ids = (int(name) if not number_problem(name) else name for name in self._image_ids)
        index = {image_id: row for row, image_id in enumerate(ids)}
        # Protocol 2 is the last one that Python 2 reads, which the original code needs.
        atomic.write(path.with_name(path.stem + _INDEX), pickle.dumps(index, protocol=2))


def _spatial(regions: RegionBatch) -> np.ndarray:
    """Return (R, 6) boxes as fractions of the image: x1, y1, x2, y2, width, height."""
    height, width = regions.image_hw[0].tolist()
    boxes = regions.boxes / np.array([width, height, width, height], np.float32)
    return np.hstack([boxes, boxes[:, 2:] - boxes[:, :2]]).astype(np.float32)
