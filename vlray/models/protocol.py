"""Protocol of a model; a model of your own needs only to follow this module.

Shapes: B examples, I images of an example, R regions padding included, L labels, C choices, P
phrases padding included.
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
    """Learning goal: the task, and the sizes of the model's inputs and outputs."""

    objective: Objective
    """``labels``, ``choices``, ``phrases``, ``matching`` or ``pretraining``."""

    feature_dim: int
    """Length D of a region vector."""

    labels: tuple[str, ...] = field(default=(), repr=False)
    """Names of the labels (in pretraining: answers of image question answering); empty if there are
    none."""

    num_images: int = 1
    """Images per example: 2 for NLVR2."""

    soft: bool = False
    """Whether an example can have several correct labels, each with a score (VQA)."""

    classes: bool = False
    """Whether the labels are the task's own classes (NLVR2, SNLI-VE) instead of answers."""

    num_objects: int = 0
    """Number of object classes of the region labels; 0 if regions have no such labels."""

    num_attributes: int = 0
    """Number of attributes of the region labels; 0 if regions have no such labels."""


@dataclass(frozen=True, eq=False)
class Loss:
    """One loss of a batch, in float32."""

    mean: Float[Tensor, ""]
    """Mean over the scored items, weighted as published. The total loss is the sum of the means."""

    count: Float[Tensor, ""]
    """Number of scored items (examples, masked tokens). It weights the workers' means into the mean
    over the global batch."""


@dataclass(frozen=True, eq=False)
class ModelOutputs:
    """Outputs of a model for a batch.

    Attributes:
        losses: Losses by name, which are summed; empty if the batch has no labels.
        scores: Higher is more likely: (B, L) for labels, (B, C) for choices, (B, P, R) for the
            regions of phrases, (B,) for a matching text and image. None in pretraining.
        attention: (B, R), or (B, I, R) with several images: attention to each region; it sums to 1
            over the real regions of an image. None if it was not requested or the model does not
            provide it.
    """

    losses: Mapping[str, Loss]
    scores: Float[Tensor, "B ..."] | None = None
    attention: Float[Tensor, "B *I R"] | None = None


class VisionLanguageModel(Protocol):
    """A ``torch.nn.Module`` that learns a `Goal` from `ModelInputs`.

    vlray's training loop handles autocast, gradient scaling, workers and checkpoints. The model
    must compute its losses in float32, whatever the precision of its layers.
    """

    def __init__(self, options: ModelSection, goal: Goal) -> None:
        """Build the model for a goal, on the CPU.

        Args:
            options: ``weights`` is a folder that `save` wrote, or anything else that the class
                accepts. If the folder is of another goal, the parameters that fit are loaded.
                Empty: random initialization with torch's generator.
            goal: Learning goal.

        Raises:
            ValueError: The model cannot learn the goal, or the weights do not fit.
        """

    @classmethod
    def loader_defaults(cls, options: ModelSection, goal: Goal) -> Mapping[str, Any]:
        """Return the options that batches need: values of `LoaderSection`, by name."""
        ...

    def __call__(self, batch: ModelInputs, *, attention: bool = False) -> ModelOutputs:
        """Compute losses and scores of a batch on the model's device.

        Args:
            batch: Made with the options of `loader_defaults`.
            attention: Whether to return ``ModelOutputs.attention``.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder."""
        ...

    def new_parameters(self) -> frozenset[str]:
        """Return the names of parameters that ``weights`` did not fill; optional."""
        ...

    def loss_in_words(self) -> str:
        """Describe the loss, for the log; optional."""
        ...
