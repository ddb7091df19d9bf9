"""Writer for a folder of ``.npz`` files in the layout of MILVLG's Caffe modes.

Source:
    MILVLG/bottom-up-attention.pytorch, utils/extract_utils.py (save_roi_features).
"""

from __future__ import annotations

import io
from typing import ClassVar

import numpy as np

from vlray.formats.writers.folder import FolderExport
from vlray.regions.batch import RegionBatch


class NpzExport(FolderExport):
    """Writer of one ``.npz`` file per image."""

    ending: ClassVar[str] = ".npz"

    def encode(self, image_id: str, regions: RegionBatch) -> memoryview:
        """Return an image's arrays as npz."""
        height, width = regions.image_hw[0].tolist()
        count = len(regions.boxes)
        info: dict[str, object] = {
            "image_id": image_id,
            "image_h": height,
            "image_w": width,
            "num_boxes": count,
        }
        if regions.obj_ids is not None:
            info["objects_id"] = regions.obj_ids.astype(np.int64)
        if regions.obj_probs is not None:
            info["objects_conf"] = regions.obj_probs
        if regions.attr_ids is not None:
            info["attrs_id"] = regions.attr_ids.astype(np.int64)
        if regions.attr_probs is not None:
            info["attrs_conf"] = regions.attr_probs
        sink = io.BytesIO()
        np.savez(
            sink,
            x=regions.visual_feats.astype(np.float32),
            bbox=regions.boxes,
            num_bbox=count,
            image_h=height,
            image_w=width,
            info=np.array(info, object),
        )
        return sink.getbuffer()
