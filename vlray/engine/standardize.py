"""Mean and standard deviation of the training regions' vectors, for ``model.standardize``.

Shapes: D: length of a vector.
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
    """Set the mean and standard deviation with which a model standardizes its input vectors.

    If the model's weights already contain these statistics, keep them.

    Raises:
        ValueError: The model has no attribute ``standardize`` of type
            `vlray.models.standardize.Standardize`.
    """
    part = getattr(model, "standardize", None)
    if not isinstance(part, Standardize):
        raise ValueError(
            f"model.standardize=true, but {type(model).__name__} has no attribute `standardize` "
            "that is a vlray.models.standardize:Standardize; remove the option"
        )
    if not part.is_measured:
        part.measure(*_moments(dataset))


def _moments(
    dataset: RegionDataset,
) -> tuple[Float32[np.ndarray, D], Float32[np.ndarray, D]]:
    """Compute mean and standard deviation over the regions in up to 4,096 images per output."""
    total = squares = np.zeros(())
    count = 0
    for name, store in dataset.stores.items():
        of_store = [part.rows.reshape(-1) for part in dataset.join.parts if part.regions == name]
        rows = np.unique(np.concatenate(of_store)) if of_store else np.zeros(0, np.int64)
        sample = np.linspace(0, len(rows) - 1, min(len(rows), MOST_IMAGES)).astype(np.int64)
        for start in range(0, len(sample), IMAGES_AT_A_TIME):
            images = rows[sample[start : start + IMAGES_AT_A_TIME]].astype(np.int64)
            counts = store.num_boxes[images]
            shape = len(images), int(counts.max()), store.feature_dim
            feats = np.empty(shape, store.feature_dtype)
            store.read_feats(images, feats)
            # Leave out padding; use float64, because the sums run over up to millions of regions.
            real = feats[np.arange(feats.shape[1]) < counts[:, None]].astype(np.float64)
            total, squares = total + real.sum(0), squares + (real**2).sum(0)
            count += len(real)
    mean = total / max(count, 1)
    # Rounding may make the variance of a constant dimension slightly negative.
    deviation = np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0))
    return mean.astype(np.float32), deviation.astype(np.float32)
