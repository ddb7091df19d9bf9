"""What a model is to vlray. A file of your own needs only to conform to this page.

Shapes: B examples, I images of an example, R regions padding included, L labels, C choices,
P phrases padding included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor

from vlray.config.model import ModelSection
from vlray.config.train import Objective
from vlray.loader.inputs import ModelInputs


@dataclass(frozen=True)
class Goal:
    """What is to be learned, and from what: all that the size of a model's ends follows from."""

    objective: Objective
    """``labels``, ``choices``, ``phrases``, ``matching`` or ``pretraining``."""

    feature_dim: int
    """Length D of a region's vector."""

    labels: tuple[str, ...] = field(default=(), repr=False)
    """Names of the labels (in pretraining: the answers of image QA); empty: there are none."""

    num_images: int = 1
    """Images of an example: 2 for NLVR2."""

    soft: bool = False
    """Whether several labels of an example can be right, each to a degree (VQA)."""

    classes: bool = False
    """Whether the labels are the task's own classes (NLVR2, SNLI-VE) in the place of answers."""

    num_objects: int = 0
    """Object classes that regions have labels of; 0: they have none."""

    num_attributes: int = 0
    """The same for attributes."""


@dataclass(frozen=True, eq=False)
class Loss:
    """One loss of a batch, in float32."""

    mean: Float[Tensor, ""]
    """Mean over whatever was scored, weighted as in the recipe. What is summed is these."""

    count: Float[Tensor, ""]
    """Over how much it is the mean (examples, masked tokens), so that the workers of a step can be
    weighted to the mean over all of it."""


@dataclass(frozen=True, eq=False)
class ModelOutputs:
    """What a model says of a batch.

    Attributes:
        losses: By name; empty where the batch has no labels. They are added up.
        scores: The higher, the more likely: (B, L) of labels, (B, C) of choices, (B, P, R) of the
            regions of phrases, (B,) of text and image belonging together. None in pretraining.
        attention: (B, R), or (B, I, R) with several images: how much was looked at each region; a
            row's real regions sum to 1. None where the model does not give it or was not asked.
    """

    losses: Mapping[str, Loss]
    scores: Float[Tensor, "B ..."] | None = None
    attention: Float[Tensor, "B *I R"] | None = None


class VisionLanguageModel(Protocol):
    """A ``torch.nn.Module`` that learns a `Goal` from `ModelInputs`.

    vlray's own loop trains it: autocast, gradient scaling, workers and checkpoints are no concern
    of the model's. Losses are computed in float32, whatever autocast makes of the layers before.
    """

    def __init__(self, options: ModelSection, goal: Goal) -> None:
        """Build the model for a goal, on the CPU.

        Args:
            options: ``weights`` is a folder that `save` wrote (of this goal or of another: then
                what fits is taken), or anything else that the class understands; empty: random
                numbers, which are drawn from torch's generator.
            goal: What is to be learned.

        Raises:
            ValueError: The goal is none that the model can learn, or the weights do not fit.
        """

    @classmethod
    def loader_defaults(cls, options: ModelSection, goal: Goal) -> Mapping[str, Any]:
        """Say how batches have to be made: values of `LoaderSection`, by name."""
        ...

    def __call__(self, batch: ModelInputs, *, attention: bool = False) -> ModelOutputs:
        """Compute losses and scores of a batch on the model's device.

        Args:
            batch: As `loader_defaults` asked for it.
            attention: Whether ``ModelOutputs.attention`` is wanted.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the model into a folder that is there."""
        ...

    def new_parameters(self) -> frozenset[str]:
        """Name the parameters that ``weights`` did not fill; optional (then: none)."""
        ...

    def loss_in_words(self) -> str:
        """Say for the log which loss it has; optional."""
        ...
