"""Regions of some images in memory, read like a `RegionStore`: what a stream has at a time.

Shapes: N images, R regions per image, padding included, K regions, D feature length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int64, Num

from vlray.regions.batch import RegionBatch
from vlray.regions.cache import LABEL

_LABELS = ("obj_ids", "obj_probs", "attr_ids", "attr_probs")


class RegionWindow:
    """The images of several batches, numbered through.

    Attributes:
        num_boxes, image_hw: Of each image, as in `RegionStore`.
        feature_dim, feature_dtype: Of the vectors.
    """

    def __init__(self, batches: Sequence[RegionBatch]) -> None:
        """Number the images; nothing is copied."""
        self._batches = tuple(batches)
        self.num_boxes = np.concatenate([batch.num_boxes for batch in batches])
        self.image_hw = np.concatenate([batch.image_hw for batch in batches])
        self.feature_dim = batches[0].visual_feats.shape[1]
        self.feature_dtype = batches[0].visual_feats.dtype
        self._batch_of = np.repeat(np.arange(len(batches)), [len(batch) for batch in batches])
        self._first = np.concatenate(
            [np.cumsum(batch.num_boxes) - batch.num_boxes for batch in batches]
        )

    def __len__(self) -> int:
        """Give the number of images."""
        return len(self.num_boxes)

    def read_feats(self, rows: Int64[np.ndarray, N], out: Num[np.ndarray, "N R D"]) -> None:
        """Read vectors as `RegionStore.read_feats` does."""
        self._read("visual_feats", rows, out)

    def read_boxes(self, rows: Int64[np.ndarray, N], out: Float32[np.ndarray, "N R 4"]) -> None:
        """Read boxes as `RegionStore.read_boxes` does."""
        self._read("boxes", rows, out)

    def read_labels(self, rows: Int64[np.ndarray, N], num_regions: int) -> dict[str, np.ndarray]:
        """Read classes and attributes as `RegionStore.read_labels` does."""
        padding = np.arange(num_regions) >= self.num_boxes[rows][:, None]
        labels = {}
        for name in _LABELS:
            if any(getattr(batch, name) is not None for batch in self._batches):
                labels[name] = np.empty((len(rows), num_regions), LABEL[name])
                missing = -1 if name.endswith("_ids") else 0
                self._read(name, rows, labels[name], missing)
                labels[name][padding] = missing
        return labels

    def read_feat_rows(
        self, rows: Int64[np.ndarray, K], regions: Int64[np.ndarray, K]
    ) -> Num[np.ndarray, "K D"]:
        """Read single vectors as `RegionStore.read_feat_rows` does."""
        out = np.empty((len(rows), self.feature_dim), self.feature_dtype)
        for place, (row, region) in enumerate(zip(rows.tolist(), regions.tolist(), strict=True)):
            feats = self._batches[self._batch_of[row]].visual_feats
            out[place] = feats[self._first[row] + region]
        return out

    def _read(self, name: str, rows: np.ndarray, out: np.ndarray, missing: int = 0) -> None:
        counts = np.minimum(self.num_boxes[rows], out.shape[1]).tolist()
        for values, row, count in zip(out, rows.tolist(), counts, strict=True):
            source = getattr(self._batches[self._batch_of[row]], name)
            first = self._first[row]
            # Of several parts of an imported output some may lack what others have.
            values[:count] = missing if source is None else source[first : first + count]
            values[count:] = 0
