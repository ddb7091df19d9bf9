"""Functions that the networks of all goals share: checks, pooling, attention to regions.

Shapes: B examples, N texts (B, or B * I with images I, B * C with choices C), T tokens, R regions,
padding included; K hidden size.
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
    """Refuse a goal that a model cannot learn.

    Raises:
        ValueError: The model does not support the objective or the number of images, or there are
            no labels.
    """
    if goal.objective not in objectives:
        raise ValueError(
            f"{model} cannot learn objective={goal.objective}; it learns {', '.join(objectives)}"
        )
    if goal.objective == "labels" and not goal.labels:
        raise ValueError(f"there are no labels for {model} to learn; give a dataset with labels")
    max_images = 2 if goal.objective == "labels" else 1
    if not 1 <= goal.num_images <= max_images:
        raise ValueError(
            f"examples have {goal.num_images} images, but {model} reads at most {max_images} with "
            f"objective={goal.objective}"
        )


def freeze_unused(unused: Iterable[nn.Module | nn.Parameter]) -> None:
    """Exclude modules that the scores do not depend on from training.

    They would get no gradient, and DistributedDataParallel would wait for one.
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
            "the batch has no phrases, which objective=phrases requires; give a grounding dataset, "
            "such as flickr30k-entities or refcoco"
        )
    return batch.phrases


def pooling_weights(
    pooling: Literal["first", "mask", "mean"], attention_mask: Int64[Tensor, "N T"]
) -> Float[Tensor, "N T"]:
    """Return the weight of each token in the pooled vector; each row sums to 1.

    Args:
        pooling: ``first``: only [CLS]. ``mask``: only the second-to-last token.
            ``mean``: all tokens equally.
        attention_mask: 1 for real tokens.
    """
    if pooling == "mean":
        return attention_mask / attention_mask.sum(1, keepdim=True)
    # The last real token is [SEP]; the [MASK] of the template precedes it.
    last = attention_mask.sum(1) - 1
    indices = last - 1 if pooling == "mask" else torch.zeros_like(last)
    return functional.one_hot(indices, attention_mask.shape[1]).float()


def weighted_sum(
    weights: Float[Tensor, "N T"], states: Float[Tensor, "N T K"]
) -> Float[Tensor, "N K"]:
    """Sum the states of the tokens, each multiplied by its weight."""
    return (weights[..., None] * states).sum(1)


def attention_to_regions(
    weights: Float[Tensor, "N R"], visual_attention_mask: Int64[Tensor, "B *I R"]
) -> Float[Tensor, "B *I R"]:
    """Normalize the attention weights over the real regions of each image; they then sum to 1.

    Args:
        weights: Attention to all regions, for N = B * I images, or for N = B * C choices (averaged
            over the choices).
        visual_attention_mask: 1 for real regions.
    """
    mask = visual_attention_mask
    # Choices read the same regions: average over them.
    if weights.numel() != mask.numel():
        weights = weights.reshape(len(mask), -1, mask.shape[-1]).mean(1)
    masked = weights.float().reshape(mask.shape) * mask
    # The clamp avoids 0 / 0 for an image without regions.
    return masked / masked.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
