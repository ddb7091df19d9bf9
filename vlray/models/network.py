"""What the networks of all goals share: what is trained of them, and what they looked at.

Shapes: B examples, N texts (B, or B * I with images I, B * C with choices C), T tokens, R regions,
padding included; K numbers of a token.
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
    """Refuse what a model cannot learn.

    Raises:
        ValueError: It has another objective, no labels, or too many images.
    """
    if goal.objective not in objectives:
        raise ValueError(
            f"{model} cannot learn objective={goal.objective}; it learns {', '.join(objectives)}"
        )
    if goal.objective == "labels" and not goal.labels:
        raise ValueError(f"there are no labels that {model} could learn; give a dataset with some")
    most = 2 if goal.objective == "labels" else 1
    if not 1 <= goal.num_images <= most:
        raise ValueError(
            f"examples have {goal.num_images} images, but {model} reads {most} at most with "
            f"objective={goal.objective}"
        )


def rest(unused: Iterable[nn.Module | nn.Parameter]) -> None:
    """Take what the scores do not depend on out of the training.

    It would get no gradient, and several workers would wait for it.
    """
    for part in unused:
        part.requires_grad_(False)


def phrases_of(batch: ModelInputs) -> PhraseTargets:
    """Give the phrases of a batch.

    Raises:
        ValueError: It has none.
    """
    if batch.phrases is None:
        raise ValueError(
            "the batch has no phrases, which objective=phrases reads; give a grounding dataset, "
            "such as flickr30k-entities or refcoco"
        )
    return batch.phrases


def reading(
    where: Literal["first", "mask", "mean"], attention_mask: Int64[Tensor, "N T"]
) -> Float[Tensor, "N T"]:
    """Weigh the tokens that the scores are read of; a row sums to 1.

    Args:
        where: ``first``: [CLS]. ``mask``: the token before the last one. ``mean``: all alike.
        attention_mask: 1 for real tokens.
    """
    if where == "mean":
        return attention_mask / attention_mask.sum(1, keepdim=True)
    last = attention_mask.sum(1) - 1
    places = last - 1 if where == "mask" else torch.zeros_like(last)
    return functional.one_hot(places, attention_mask.shape[1]).float()


def read(weights: Float[Tensor, "N T"], states: Float[Tensor, "N T K"]) -> Float[Tensor, "N K"]:
    """Add up what tokens have, each with its weight."""
    return (weights[..., None] * states).sum(1)


def looked_at(
    weights: Float[Tensor, "N R"], visual_attention_mask: Int64[Tensor, "B *I R"]
) -> Float[Tensor, "B *I R"]:
    """Turn attention weights of a token into shares of the real regions of each image.

    Args:
        weights: To all regions, of N = B * I images; or of N = B * C choices, whose mean it is.
        visual_attention_mask: 1 for real regions.
    """
    mask = visual_attention_mask
    if weights.numel() != mask.numel():
        weights = weights.reshape(len(mask), -1, mask.shape[-1]).mean(1)
    real = weights.float().reshape(mask.shape) * mask
    return real / real.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
