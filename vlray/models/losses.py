"""Losses over labels, as the recipes of the models have them; always in float32.

Shapes: B examples, L labels, C choices, P phrases padding included, R regions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from vlray.config.model import ModelSection
from vlray.config.train import Objective
from vlray.loader.inputs import ModelInputs, PhraseTargets
from vlray.models.protocol import Loss

LossName = Literal["bce", "kl", "cross-entropy"]
UNKNOWN = -100

WORDS: Mapping[LossName, str] = {
    "bce": "bce, binary cross-entropy summed over the labels",
    "kl": "kl, Kullback-Leibler divergence from the soft scores",
    "cross-entropy": "cross-entropy of the best label",
}


def chosen(options: ModelSection, published: LossName) -> LossName:
    """Say which loss over labels is meant.

    Args:
        options: ``loss`` and ``label_smoothing``.
        published: What the model was published with for this kind of task.

    Raises:
        ValueError: The smoothing has no effect on this loss.
    """
    how = published if options.loss == "model" else options.loss
    if how == "bce" and options.label_smoothing:
        raise ValueError(
            f"model.label_smoothing={options.label_smoothing} has no meaning for bce, the loss of "
            "this model and task; give model.loss=kl or cross-entropy as well"
        )
    return how


def in_words(how: LossName, objective: Objective) -> str:
    """Say which loss `label_losses` or `phrase_losses` computes."""
    if objective == "phrases":
        return "kl, Kullback-Leibler divergence over the regions of each phrase"
    if objective == "choices":
        return "cross-entropy of the right choice"
    return WORDS[how]


def label_losses(
    how: LossName, scores: Float[Tensor, "B L"], batch: ModelInputs, smoothing: float
) -> dict[str, Loss]:
    """Compute the loss over the labels, or the choices, of a batch that has some."""
    if batch.label_ids is None:
        return {}
    if how == "cross-entropy" or batch.targets is None:
        return {"labels": cross_entropy(scores, batch.label_ids, smoothing)}
    if how == "kl":
        return {"labels": divergence(scores, batch.targets, smoothing)}
    return {"labels": binary_cross_entropy(scores, batch.targets)}


def binary_cross_entropy(scores: Float[Tensor, "B L"], targets: Float[Tensor, "B L"]) -> Loss:
    """Take each label for itself, and sum over the labels.

    An example without a known answer says that every label is wrong.

    Source:
        LXMERT (arXiv:1908.07490); airsplay/lxmert src/tasks/vqa.py: the mean over examples and
        labels, times the number of labels.
    """
    each = functional.binary_cross_entropy_with_logits(
        scores.float(), targets.float(), reduction="sum"
    )
    return Loss(each / len(scores), _number(len(scores), scores))


def divergence(
    scores: Float[Tensor, "B L"], targets: Float[Tensor, "B L"], smoothing: float = 0
) -> Loss:
    """Take the Kullback-Leibler divergence of the softmax from the targets.

    An example without a known answer adds nothing, but counts.

    Source:
        VisualBERT (arXiv:1908.03557); transformers' VisualBertForQuestionAnswering.
    """
    goal = targets.float()
    if smoothing:
        known = goal.sum(1, keepdim=True)
        goal = goal * (1 - smoothing) + smoothing * known / goal.shape[1]
    logs = torch.log_softmax(scores.float(), dim=1)
    return Loss(functional.kl_div(logs, goal, reduction="batchmean"), _number(len(scores), scores))


def cross_entropy(
    scores: Float[Tensor, "B L"], label_ids: Int64[Tensor, B], smoothing: float = 0
) -> Loss:
    """Take the cross-entropy of the one right label, over the examples that have one."""
    count = (label_ids != UNKNOWN).sum()
    total = functional.cross_entropy(
        scores.float(),
        label_ids,
        ignore_index=UNKNOWN,
        reduction="sum",
        label_smoothing=smoothing,
    )
    return Loss(total / count.clamp(min=1), count.float())


def phrase_losses(scores: Float[Tensor, "B P R"], phrases: PhraseTargets | None) -> dict[str, Loss]:
    """Compute the divergence of the softmax over regions from the regions that are right.

    It is summed over the phrases of an example; those without a right region add nothing.

    Source:
        VisualBERT (arXiv:1908.03557); transformers' VisualBertForRegionToPhraseAlignment.
    """
    if phrases is None:
        return {}
    goal = phrases.targets.float() * phrases.mask[..., None]
    logs = torch.log_softmax(scores.float(), dim=-1)
    each = functional.kl_div(logs, goal, reduction="batchmean")
    return {"phrases": Loss(each, _number(len(scores), scores))}


def _number(count: int, like: Tensor) -> Float[Tensor, ""]:
    return torch.tensor(float(count), device=like.device)
