"""Writer for the three folders of self-critical's captioning code.

Source:
    ruotianluo/self-critical.pytorch, scripts/make_bu_data.py, captioning/data/dataloader.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vlray.formats.writers.base import FolderExport, npy, npz
from vlray.regions.batch import RegionBatch


class CocobuExport(FolderExport):
    """Writer for ``cocobu_att/ID.npz``, ``cocobu_fc/ID.npy`` and ``cocobu_box/ID.npy``."""

    def files_of(self, image_id: str, regions: RegionBatch) -> Iterator[tuple[str, memoryview]]:
        """Yield the vectors, their mean, and the boxes of one image."""
        features = regions.visual_feats.astype(np.float32)
        # An image without regions has no mean; self-critical needs a vector nevertheless.
        mean = features.mean(axis=0) if len(features) else np.zeros(features.shape[1], np.float32)
        yield f"cocobu_fc/{image_id}.npy", npy(mean)
        yield f"cocobu_box/{image_id}.npy", npy(regions.boxes)
        yield f"cocobu_att/{image_id}.npz", npz({"feat": features})
