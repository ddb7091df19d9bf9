"""Writer for the HDF5 file of M2 (meshed-memory-transformer), with datasets named after images.

Source:
    aimagelab/meshed-memory-transformer, data/field.py (ImageDetectionsField), README.md.
"""

from __future__ import annotations

import h5py
import numpy as np

from vlray.formats.writers.base import class_probs_of, number_problem
from vlray.formats.writers.hdf5 import Hdf5Base, allocate, rows_without_vectors
from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput


class M2Export(Hdf5Base):
    """Writer for ``ID_features``, ``ID_boxes`` and, if the output has them, ``ID_cls_prob``."""

    @staticmethod
    def problem(image_id: str) -> str:
        """Refuse ids that are not numbers: M2 formats them with ``%d``."""
        return number_problem(image_id)

    def allocate(self, file: h5py.File, output: RegionOutput, image_ids: list[str]) -> None:
        """Create the datasets of all images."""
        first = output[image_ids[0]]
        probs = class_probs_of(first)
        for image_id, regions in rows_without_vectors(output, image_ids):
            count = len(regions.boxes)
            allocate(file, f"{image_id}_features", (count, first.visual_feats.shape[1]))
            file[f"{image_id}_boxes"] = regions.boxes
            if probs is not None:
                allocate(file, f"{image_id}_cls_prob", (count, probs.shape[1]))

    def fill(self, file: h5py.File, image_id: str, regions: RegionBatch) -> None:
        """Write the vectors and class probabilities of one image."""
        file[f"{image_id}_features"][...] = regions.visual_feats.astype(np.float32)
        if (probs := class_probs_of(regions)) is not None:
            file[f"{image_id}_cls_prob"][...] = probs
