"""Auxiliary loss over a field of the examples, read from the regions alone.

Shapes: B: examples; R: regions per image, including padding; H: hidden size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs
from vlray.models.losses import IGNORE_INDEX, cross_entropy
from vlray.models.protocol import Goal, Loss

FILE = "auxiliary.safetensors"


class Auxiliary(nn.Module):
    """Predicts a field of the examples, such as the organ in an image, from the mean region.

    On few examples, it lets the projection of the region vectors learn faster what the vectors say.
    """

    def __init__(self, options: ModelSection, goal: Goal, hidden_size: int) -> None:
        """Start with random weights, or with those in the folder ``options.weights``.

        Raises:
            ValueError: The objective is not labels of one image.
        """
        super().__init__()
        if goal.objective != "labels" or goal.num_images != 1:
            raise ValueError(
                f"model.auxiliary={options.auxiliary} is for labels of one image, but this is "
                f"objective={goal.objective} with {goal.num_images} images; remove it"
            )
        self._field, self._weight, self._names = (
            options.auxiliary,
            options.auxiliary_weight,
            {name: number for number, name in enumerate(goal.auxiliary)},
        )
        self.classifier = nn.Linear(hidden_size, len(goal.auxiliary))
        path = Path(options.weights or "-").expanduser() / FILE
        self.is_loaded = path.is_file()
        if self.is_loaded:
            tensors = load_file(path)
            # Of another training, with other values of the field.
            self.is_loaded = tensors["weight"].shape == self.classifier.weight.shape
            if self.is_loaded:
                self.classifier.load_state_dict(tensors)

    @classmethod
    def of(cls, options: ModelSection, goal: Goal, hidden_size: int) -> Self | None:
        """Build the head; None if ``options.auxiliary`` is empty."""
        return cls(options, goal, hidden_size) if options.auxiliary else None

    def forward(self, states: Float[Tensor, "B R H"], batch: ModelInputs) -> dict[str, Loss]:
        """Compute the weighted loss; examples without the field count nothing."""
        mask = batch.visual_attention_mask[..., None]
        mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        ids = [self._names.get(about.get(self._field, ""), IGNORE_INDEX) for about in batch.about]
        if not ids:  # a batch that was made without the fields
            return {}
        loss = cross_entropy(self.classifier(mean), torch.tensor(ids, device=states.device))
        return {"auxiliary": Loss(loss.mean * self._weight, loss.count)}

    def save(self, folder: Path) -> None:
        """Write the head into a folder."""
        state = {name: tensor.cpu() for name, tensor in self.classifier.state_dict().items()}
        save_file(state, folder / FILE)
