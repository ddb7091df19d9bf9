"""Losses over labels, choices and phrases, as published with the models; always in float32.

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
IGNORE_INDEX = -100
"""Label of examples without a right label; they do not count."""

DESCRIPTIONS: Mapping[LossName, str] = {
    "bce": "bce, binary cross-entropy summed over the labels",
    "kl": "kl, Kullback-Leibler divergence from the soft scores",
    "cross-entropy": "cross-entropy of the best label",
}


def choose_loss(options: ModelSection, published: LossName) -> LossName:
    """Resolve ``model.loss`` to the name of a loss over labels.

    Args:
        options: ``loss`` and ``label_smoothing``.
        published: Loss of the model's paper for this kind of task.

    Raises:
        ValueError: Label smoothing is set, but has no effect on this loss.
    """
    loss = published if options.loss == "model" else options.loss
    if loss == "bce" and options.label_smoothing:
        raise ValueError(
            f"model.label_smoothing={options.label_smoothing} has no effect on bce, the loss of "
            "this model and task; remove it, or also set model.loss=kl or cross-entropy"
        )
    return loss


def describe_loss(loss: LossName, objective: Objective) -> str:
    """Describe the loss that `label_losses` or `phrase_losses` computes."""
    if objective == "phrases":
        return "kl, Kullback-Leibler divergence over the regions of each phrase"
    if objective == "choices":
        return "cross-entropy of the right choice"
    return DESCRIPTIONS[loss]


def label_losses(
    loss: LossName, scores: Float[Tensor, "B L"], batch: ModelInputs, smoothing: float
) -> dict[str, Loss]:
    """Compute the loss over labels or choices; empty for a batch without labels."""
    if batch.label_ids is None:
        return {}
    if loss == "cross-entropy" or batch.targets is None:
        return {"labels": cross_entropy(scores, batch.label_ids, smoothing)}
    if loss == "kl":
        return {"labels": divergence(scores, batch.targets, smoothing)}
    return {"labels": binary_cross_entropy(scores, batch.targets)}


def binary_cross_entropy(scores: Float[Tensor, "B L"], targets: Float[Tensor, "B L"]) -> Loss:
    """Compute the binary cross-entropy of each label, summed over the labels.

    For an example without an answer in the label space, every label is wrong.

    Source:
        LXMERT (arXiv:1908.07490); airsplay/lxmert src/tasks/vqa.py: the mean over examples and
        labels, times the number of labels.
    """
    total = functional.binary_cross_entropy_with_logits(
        scores.float(), targets.float(), reduction="sum"
    )
    return Loss(total / len(scores), _number(len(scores), scores))


def divergence(
    scores: Float[Tensor, "B L"], targets: Float[Tensor, "B L"], smoothing: float = 0
) -> Loss:
    """Compute the Kullback-Leibler divergence of the softmax from the targets.

    An example without an answer in the label space adds nothing to the sum, but counts in the mean.

    Source:
        VisualBERT (arXiv:1908.03557); transformers' VisualBertForQuestionAnswering.
    """
    target = targets.float()
    if smoothing:
        # Scaled by the sum of the targets, so that an example without an answer stays zero.
        target_sum = target.sum(1, keepdim=True)
        target = target * (1 - smoothing) + smoothing * target_sum / target.shape[1]
    log_probs = torch.log_softmax(scores.float(), dim=1)
    return Loss(
        functional.kl_div(log_probs, target, reduction="batchmean"), _number(len(scores), scores)
    )


def cross_entropy(
    scores: Float[Tensor, "B L"], label_ids: Int64[Tensor, B], smoothing: float = 0
) -> Loss:
    """Compute the mean cross-entropy over the examples that have a right label."""
    # A sum and a clamped count: a batch without right labels gives 0, not NaN.
    count = (label_ids != IGNORE_INDEX).sum()
    total = functional.cross_entropy(
        scores.float(),
        label_ids,
        ignore_index=IGNORE_INDEX,
        reduction="sum",
        label_smoothing=smoothing,
    )
    return Loss(total / count.clamp(min=1), count.float())


def phrase_losses(scores: Float[Tensor, "B P R"], phrases: PhraseTargets | None) -> dict[str, Loss]:
    """Compute the Kullback-Leibler divergence of the softmax over regions from the right regions.

    The loss of an example is the sum over its phrases; a phrase without a right region adds
    nothing.

    Source:
        VisualBERT (arXiv:1908.03557); transformers' VisualBertForRegionToPhraseAlignment.
    """
    if phrases is None:
        return {}
    # A phrase that truncation removed has no token to read, so it gets no target.
    target = phrases.targets.float() * phrases.mask[..., None]
    log_probs = torch.log_softmax(scores.float(), dim=-1)
    mean = functional.kl_div(log_probs, target, reduction="batchmean")
    return {"phrases": Loss(mean, _number(len(scores), scores))}


def _number(count: int, like: Tensor) -> Float[Tensor, ""]:
    return torch.tensor(float(count), device=like.device)
