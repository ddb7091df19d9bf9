"""Measures the regions that a model is trained on, for ``model.standardize``.

Shapes: D numbers of a vector.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from torch import nn

from vlray.loader.dataset import RegionDataset
from vlray.models.standardize import Standardize

MOST_IMAGES = 4096
IMAGES_AT_A_TIME = 64


def standardize(model: nn.Module, dataset: RegionDataset) -> None:
    """Let a model standardize vectors by the mean and deviation of its training's regions.

    Those that its weights came with stay.

    Raises:
        ValueError: The model has nothing that would.
    """
    part = getattr(model, "standardize", None)
    if not isinstance(part, Standardize):
        raise ValueError(
            f"model.standardize=true, but {type(model).__name__} has no attribute `standardize` "
            "that is a vlray.models.standardize:Standardize; leave the option out"
        )
    if not part.is_measured:
        part.measure(*_moments(dataset))


def _moments(
    dataset: RegionDataset,
) -> tuple[Float32[np.ndarray, D], Float32[np.ndarray, D]]:
    """Give mean and deviation over the regions of a training's images, of 4,096 at most."""
    total = squares = np.zeros(())
    count = 0
    for name, store in dataset.stores.items():
        of_store = [part.rows.reshape(-1) for part in dataset.join.parts if part.regions == name]
        rows = np.unique(np.concatenate(of_store)) if of_store else np.zeros(0, np.int64)
        spread = np.linspace(0, len(rows) - 1, min(len(rows), MOST_IMAGES)).astype(np.int64)
        for start in range(0, len(spread), IMAGES_AT_A_TIME):
            some = rows[spread[start : start + IMAGES_AT_A_TIME]].astype(np.int64)
            counts = store.num_boxes[some]
            feats = np.empty((len(some), int(counts.max()), store.feature_dim), store.feature_dtype)
            store.read_feats(some, feats)
            real = feats[np.arange(feats.shape[1]) < counts[:, None]].astype(np.float64)
            total, squares = total + real.sum(0), squares + (real**2).sum(0)
            count += len(real)
    mean = total / max(count, 1)
    deviation = np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0))
    return mean.astype(np.float32), deviation.astype(np.float32)
