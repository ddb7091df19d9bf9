"""Writer for UNITER's ``.npz`` files, and the arrays that its LMDB has as well.

Shapes: R: regions in one image.

Source:
    ChenRocks/UNITER, scripts/convert_imgdir.py, data/data.py (DetectFeatLmdb), data/mrm.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgpack
import numpy as np

from vlray.formats.writers.base import FolderExport, class_probs_of, npz
from vlray.regions.batch import RegionBatch

DATABASE = "feat_th0.2_max100_min10"
"""Folder of the database, named as UNITER expects it for its default thresholds."""

NBB = "nbb_th0.2_max100_min10.json"
"""File with the number of boxes of each image."""


class UniterNpzExport(FolderExport):
    """Writer for one file per image."""

    def files_of(self, image_id: str, regions: RegionBatch) -> Iterator[tuple[str, memoryview]]:
        """Yield the file of one image."""
        yield f"{image_id}.npz", npz(uniter_arrays(regions))


def uniter_arrays(regions: RegionBatch) -> dict[str, np.ndarray]:
    """Return the arrays of one image.

    ``norm_bb`` has six columns; UNITER appends the seventh, the area, when it loads them. Vectors
    keep the precision of the output: UNITER stores float16, too. Label ids are added to UNITER's
    own arrays, as it has only ``soft_labels``, the probabilities of all classes.
    """
    height, width = regions.image_hw[0].tolist()
    corners = regions.boxes / np.array([width, height, width, height], np.float32)
    count = len(corners)
    conf = np.zeros(count, np.float32) if regions.obj_probs is None else regions.obj_probs
    arrays = {
        "features": regions.visual_feats,
        "norm_bb": np.hstack([corners, corners[:, 2:] - corners[:, :2]]).astype(np.float32),
        "conf": conf,
        "soft_labels": class_probs_of(regions),
        "objects_id": regions.obj_ids,
        "attrs_id": regions.attr_ids,
        "attrs_conf": regions.attr_probs,
    }
    return {name: values for name, values in arrays.items() if values is not None}


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Encode arrays as MessagePack in the form of the package msgpack_numpy."""
    items = {
        name: {
            b"nd": True,
            b"type": values.dtype.str,
            b"kind": b"",
            b"shape": values.shape,
            b"data": values.tobytes(),
        }
        for name, values in arrays.items()
    }
    data: bytes = msgpack.packb(items, use_bin_type=True)
    return data
