"""Protocol that every model follows, built-in or your own.

Shapes: B: examples; I: images per example; R: regions per image, including padding; L: labels; C:
choices per example; P: phrases per example, including padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from vlray.config.model import ModelSection
from vlray.config.train import Objective
from vlray.loader.inputs import ModelInputs


@dataclass(frozen=True)
class Goal:
    """Learning goal: the task and the sizes of the model's inputs and outputs."""

    objective: Objective
    """``labels``, ``choices``, ``phrases``, ``matching`` or ``pretraining``."""

    feature_dim: int
    """Length D of a region vector."""

    labels: tuple[str, ...] = field(default=(), repr=False)
    """Label names, in the order of their ids; empty if there are none. In pretraining, the answers
    of image question answering."""

    num_images: int = 1
    """Images per example: 2 for NLVR2."""

    soft: bool = False
    """Whether an example can have several correct labels, each with a score (VQA)."""

    classes: bool = False
    """Whether the labels are the task's own classes (NLVR2, SNLI-VE) instead of answers."""

    auxiliary: tuple[str, ...] = field(default=(), repr=False)
    """Values of the examples' field ``model.auxiliary`` in the training data, sorted."""

    num_objects: int = 0
    """Number of object classes in the region labels; 0 if the regions have no class labels."""

    num_attributes: int = 0
    """Number of attributes in the region labels; 0 if the regions have no attribute labels."""


@dataclass(frozen=True, eq=False)
class Loss:
    """One loss on a batch, in float32."""

    mean: Float[Tensor, ""]
    """Mean over the scored items, weighted as published. The total loss is the sum of the means."""

    count: Float[Tensor, ""]
    """Number of scored items, such as examples or masked tokens. It weights each worker's mean in
    the mean over the global batch."""


@dataclass(frozen=True, eq=False)
class ModelOutputs:
    """Outputs of a model for a batch.

    Attributes:
        losses: Losses, keyed by name; training minimizes their sum. Empty if the batch has no
            labels.
        scores: Prediction scores; a higher score is more likely. (B, L) for labels, (B, C) for
            choices, (B, P, R) for phrases, (B,) for matching. None in pretraining.
        attention: Attention to each region, which sums to 1 over the real regions of an image.
            (B, R), or (B, I, R) with several images. None if it was not requested or the model does
            not provide it.
    """

    losses: Mapping[str, Loss]
    scores: Float[Tensor, "B ..."] | None = None
    attention: Float[Tensor, "B *I R"] | None = None


class VisionLanguageModel(Protocol):
    """A ``torch.nn.Module`` that learns a `Goal` from `ModelInputs`.

    vlray's training loop handles autocast, gradient scaling, workers and checkpoints. The model
    must compute the losses in float32, whatever the precision of the layers.
    """

    def __init__(self, options: ModelSection, goal: Goal) -> None:
        """Build the model for a goal, on the CPU.

        Args:
            options: Model options. ``weights`` is a folder written by `save`, or anything else that
                the class accepts. If the folder was saved for another goal, the parameters that fit
                are loaded. If ``weights`` is empty, all parameters are initialized with torch's
                random generator.
            goal: Learning goal.

        Raises:
            ValueError: The model cannot learn the goal, or the weights do not fit.
        """

    @classmethod
    def loader_defaults(cls, options: ModelSection, goal: Goal) -> Mapping[str, object]:
        """Return the loader options that the model requires, keyed by `LoaderSection` field."""
        ...

    def __call__(self, batch: ModelInputs, *, attention: bool = False) -> ModelOutputs:
        """Compute the losses and scores for a batch on the model's device.

        Args:
            batch: Batch that was loaded with the options from `loader_defaults`.
            attention: Whether to return ``ModelOutputs.attention``.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder."""
        ...

    def new_parameters(self) -> frozenset[str]:
        """Return the names of the parameters that ``weights`` did not fill (optional method)."""
        ...

    def loss_in_words(self) -> str:
        """Describe the loss in a few words for the log (optional method)."""
        ...
