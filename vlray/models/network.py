"""Functions that all models share: checks of the goal, pooling, attention to regions.

Shapes: B: examples; I: images per example; C: choices per example; N: rows of the network (B,
B * I or B * C); T: tokens; R: regions per image, including padding; P: phrases per example; K:
hidden size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from vlray.config.train import Objective
from vlray.loader.inputs import ModelInputs, PhraseTargets
from vlray.models.protocol import Goal


def check_goal(model: str, goal: Goal, objectives: Sequence[Objective]) -> None:
    """Raise an error if a model cannot learn a goal.

    Raises:
        ValueError: The model does not support the objective or the number of images, or the goal
            has no labels.
    """
    if goal.objective not in objectives:
        raise ValueError(
            f"{model} cannot learn objective={goal.objective}; it learns {', '.join(objectives)}"
        )
    if goal.objective == "labels" and not goal.labels:
        raise ValueError(f"there are no labels for {model} to learn; pass a dataset with labels")
    # Only labels are learned from pairs of images (NLVR2).
    max_images = 2 if goal.objective == "labels" else 1
    if not 1 <= goal.num_images <= max_images:
        raise ValueError(
            f"examples have {goal.num_images} images, but {model} reads at most {max_images} with "
            f"objective={goal.objective}"
        )


def freeze_unused(unused: Iterable[nn.Module | nn.Parameter]) -> None:
    """Freeze modules and parameters that the scores do not depend on.

    They never get a gradient, and DistributedDataParallel would wait for one.
    """
    for part in unused:
        part.requires_grad_(False)


def get_phrases(batch: ModelInputs) -> PhraseTargets:
    """Return the phrases of a batch.

    Raises:
        ValueError: The batch has no phrases.
    """
    if batch.phrases is None:
        raise ValueError(
            "the batch has no phrases, which objective=phrases requires; pass a grounding dataset, "
            "such as flickr30k-entities or refcoco"
        )
    return batch.phrases


def pooling_weights(
    pooling: Literal["first", "mask", "mean"], attention_mask: Int64[Tensor, "N T"]
) -> Float[Tensor, "N T"]:
    """Return the weight of each token in the pooled vector; each row sums to 1.

    Args:
        pooling: ``first``: only [CLS]. ``mask``: only the second-to-last token.
            ``mean``: all real tokens equally.
        attention_mask: 1 for real tokens, 0 for padding.
    """
    if pooling == "mean":
        return attention_mask / attention_mask.sum(1, keepdim=True)
    # The last real token is [SEP]; the [MASK] from the template precedes it.
    last = attention_mask.sum(1) - 1
    indices = last - 1 if pooling == "mask" else torch.zeros_like(last)
    return functional.one_hot(indices, attention_mask.shape[1]).float()


def weighted_sum(
    weights: Float[Tensor, "N T"], states: Float[Tensor, "N T K"]
) -> Float[Tensor, "N K"]:
    """Return the weighted sum of the token states in each row."""
    return (weights[..., None] * states).sum(1)


def attention_to_regions(
    weights: Float[Tensor, "N R"], visual_attention_mask: Int64[Tensor, "B *I R"]
) -> Float[Tensor, "B *I R"]:
    """Normalize attention weights so that they sum to 1 over the real regions of each image.

    Args:
        weights: Attention to each region, with one row per image or choice; (B, I * R) if the
            images of an example form one sequence. The weights of choices are averaged.
        visual_attention_mask: 1 for real regions, 0 for padding.
    """
    mask = visual_attention_mask
    # Several choices share the regions of one image, so their weights are averaged.
    if weights.numel() != mask.numel():
        weights = weights.reshape(len(mask), -1, mask.shape[-1]).mean(1)
    masked = weights.float().reshape(mask.shape) * mask
    # The clamp avoids 0 / 0 for an image without regions.
    return masked / masked.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
