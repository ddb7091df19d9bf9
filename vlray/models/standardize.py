"""Standardization of region vectors to mean 0 and standard deviation 1.

Shapes: D: features per region vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Float32
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vlray.config.model import ModelSection

FILE = "standardize.safetensors"
MAX_DEVIATIONS = 6
"""Limit on standardized values, in standard deviations; rare features would far exceed it."""

MIN_DEVIATION_SHARE = 1e-3
"""Share of the mean deviation below which a feature counts as constant."""


class Standardize(nn.Module):
    """Subtracts the mean of each feature and divides by its standard deviation.

    Features that are never negative, such as the output of a ReLU, have large means compared with
    the differences between regions. A small model learns faster if the means are subtracted. The
    statistics come from the training regions and are saved in a file next to the network.
    """

    mean: Float[Tensor, D]
    deviation: Float[Tensor, D]

    def __init__(self, feature_dim: int) -> None:
        """Start with mean 0 and standard deviation 1."""
        super().__init__()
        self.is_measured = False
        # Buffers move to the model's device, but are not trained.
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("deviation", torch.ones(feature_dim))

    @classmethod
    def of(cls, options: ModelSection, feature_dim: int) -> Self | None:
        """Build the layer, and load the statistics from the ``weights`` folder if it has any.

        Returns:
            The layer; None if ``options.standardize`` is off.

        Raises:
            ValueError: The statistics are for vectors of a different length.
        """
        if not options.standardize:
            return None
        # ``weights`` can also be empty or a name on the hub; the path then does not exist.
        layer, path = cls(feature_dim), Path(options.weights or "-").expanduser() / FILE
        if path.is_file():
            try:
                layer.load_state_dict(load_file(path))
                layer.is_measured = True
            except RuntimeError as error:
                raise ValueError(
                    f"{path} does not fit vectors of length {feature_dim}: {error}"
                ) from error
        return layer

    def forward(self, feats: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """Standardize vectors; the result is float32, between -6 and 6."""
        return ((feats.float() - self.mean) / self.deviation).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)

    def measure(self, mean: Float32[np.ndarray, D], deviation: Float32[np.ndarray, D]) -> None:
        """Set the statistics that were measured; a constant feature is divided by 1."""
        self.is_measured = True
        # Dividing a constant feature by its tiny deviation would amplify rounding errors.
        varies = deviation > MIN_DEVIATION_SHARE * deviation.mean()
        self.mean.copy_(torch.from_numpy(mean))
        self.deviation.copy_(torch.from_numpy(np.where(varies, deviation, 1)))

    def save(self, folder: Path) -> None:
        """Write the statistics into a folder."""
        save_file({name: buffer.cpu() for name, buffer in self.state_dict().items()}, folder / FILE)
