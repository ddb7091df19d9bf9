"""Regions' vectors brought to mean 0 and deviation 1, by numbers that stay with the model.

Shapes: D numbers of a vector.
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
MOST = 6
"""Deviations that a number is off the mean at most; what is rare is else far too large."""

LEAST = 1e-3
"""Deviation, as a share of the mean one, below which a number counts as always the same."""


class Standardize(nn.Module):
    """Takes the mean of each number of the vectors away, and divides by its deviation.

    Vectors that are never negative, as those after a ReLU, have means that are large beside what
    differs between regions; a small model learns sooner without them. The numbers are of the
    training's regions, and are kept in a file of their own beside the network's.
    """

    mean: Float[Tensor, D]
    deviation: Float[Tensor, D]

    def __init__(self, feature_dim: int) -> None:
        """Begin with a mean of 0 and a deviation of 1: vectors stay as they are."""
        super().__init__()
        self.is_measured = False
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("deviation", torch.ones(feature_dim))

    @classmethod
    def of(cls, options: ModelSection, feature_dim: int) -> Self | None:
        """Build what the options ask for; a folder of ``weights`` that has the numbers gives them.

        Returns:
            None where nothing is to be standardized.

        Raises:
            ValueError: The folder's numbers are of vectors of another length.
        """
        if not options.standardize:
            return None
        built, path = cls(feature_dim), Path(options.weights or "-").expanduser() / FILE
        if path.is_file():
            try:
                built.load_state_dict(load_file(path))
                built.is_measured = True
            except RuntimeError as error:
                raise ValueError(f"{path} is not of vectors of {feature_dim}: {error}") from error
        return built

    def forward(self, feats: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """Standardize vectors; what comes out is float32, and 6 at most."""
        return ((feats.float() - self.mean) / self.deviation).clamp(-MOST, MOST)

    def measure(self, mean: Float32[np.ndarray, D], deviation: Float32[np.ndarray, D]) -> None:
        """Take what was measured; a number that is always the same is divided by 1."""
        self.is_measured = True
        changes = deviation > LEAST * deviation.mean()
        self.mean.copy_(torch.from_numpy(mean))
        self.deviation.copy_(torch.from_numpy(np.where(changes, deviation, 1)))

    def save(self, folder: Path) -> None:
        """Write the numbers."""
        save_file({name: buffer.cpu() for name, buffer in self.state_dict().items()}, folder / FILE)
