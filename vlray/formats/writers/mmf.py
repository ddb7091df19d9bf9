"""Writers for MMF: a folder of ``X.npy`` and ``X_info.npy``, and an LMDB of the same.

Source:
    facebookresearch/mmf, tools/scripts/features/extract_features_vmb.py and lmdb_conversion.py,
    mmf/datasets/databases/readers/feature_readers.py.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from vlray.formats.writers.base import FolderExport, class_probs_of, npy, sizes_of
from vlray.regions.batch import RegionBatch


class MmfExport(FolderExport):
    """Writer for two files per image; ``X_info.npy`` is a pickled dictionary."""

    def files_of(self, image_id: str, regions: RegionBatch) -> Iterator[tuple[str, memoryview]]:
        """Yield both files of one image."""
        sink = io.BytesIO()
        info = {"image_id": image_id, **mmf_info(regions)}
        np.save(sink, np.array(info, object), allow_pickle=True)
        # Readers look for X.npy first, so its companion must be there.
        yield f"{image_id}_info.npy", sink.getbuffer()
        yield f"{image_id}.npy", npy(regions.visual_feats.astype(np.float32))


def mmf_info(regions: RegionBatch) -> dict[str, Any]:
    """Return the dictionary that MMF stores beside the vectors of one image.

    Without the probabilities of all classes there is no ``cls_prob``: MMF expects a score for each
    class in it. The scores that an output always has are added under the names of bottom-up
    attention, which MMF ignores.
    """
    height, width = sizes_of(regions)
    info: dict[str, Any] = {
        "bbox": regions.boxes,
        "num_boxes": len(regions.boxes),
        "image_height": height,
        "image_width": width,
    }
    columns = {
        "objects": None if regions.obj_ids is None else regions.obj_ids.astype(np.int64),
        "cls_prob": class_probs_of(regions),
        "objects_conf": regions.obj_probs,
        "attrs_id": None if regions.attr_ids is None else regions.attr_ids.astype(np.int64),
        "attrs_conf": regions.attr_probs,
    }
    return info | {name: values for name, values in columns.items() if values is not None}
