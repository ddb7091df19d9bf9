"""Losses over labels, choices and phrases, as published with the models; always in float32.

Shapes: B: examples; L: labels, or choices per example; P: phrases per example, including padding;
R: regions per image, including padding.
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
"""Label of examples without a correct label; the loss ignores them."""

DESCRIPTIONS: Mapping[LossName, str] = {
    "bce": "bce, binary cross-entropy summed over the labels",
    "kl": "kl, Kullback-Leibler divergence from the soft scores",
    "cross-entropy": "cross-entropy of the best label",
}


def choose_loss(options: ModelSection, published: LossName) -> LossName:
    """Resolve ``model.loss`` to the name of a loss over labels.

    Args:
        options: Uses ``loss`` and ``label_smoothing``.
        published: Loss that the model's paper uses for this kind of task.

    Raises:
        ValueError: Label smoothing is set, but the loss does not support it.
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
    """Compute the loss over labels or choices; empty if the batch has no labels."""
    if batch.label_ids is None:
        return {}
    # Without soft targets, as for choices, only cross-entropy applies.
    if loss == "cross-entropy" or batch.targets is None:
        return {"labels": cross_entropy(scores, batch.label_ids, smoothing)}
    if loss == "kl":
        return {"labels": divergence(scores, batch.targets, smoothing)}
    return {"labels": binary_cross_entropy(scores, batch.targets)}


def binary_cross_entropy(scores: Float[Tensor, "B L"], targets: Float[Tensor, "B L"]) -> Loss:
    """Compute the binary cross-entropy, summed over labels and averaged over examples.

    If no answer of an example is in the label space, all its labels count as wrong.

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
    """Compute the Kullback-Leibler divergence between the targets and the softmax of the scores.

    An example with no answer in the label space adds 0 to the sum, but counts in the mean.

    Source:
        VisualBERT (arXiv:1908.03557); transformers' VisualBertForQuestionAnswering.
    """
    target = targets.float()
    if smoothing:
        # The scaling by the sum of the targets keeps an example without an answer at zero.
        target_sum = target.sum(1, keepdim=True)
        target = target * (1 - smoothing) + smoothing * target_sum / target.shape[1]
    # batchmean divides by the number of examples, including those without an answer.
    log_probs = torch.log_softmax(scores.float(), dim=1)
    return Loss(
        functional.kl_div(log_probs, target, reduction="batchmean"), _number(len(scores), scores)
    )


def cross_entropy(
    scores: Float[Tensor, "B L"], label_ids: Int64[Tensor, B], smoothing: float = 0
) -> Loss:
    """Compute the mean cross-entropy over the examples that have a correct label."""
    # Without any correct label, the clamped count makes the loss 0; a plain mean would be NaN.
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
    """Compute the Kullback-Leibler divergence between the target regions and the predicted ones.

    The prediction is a softmax over regions. An example's loss is the sum over its phrases; a
    phrase without a correct region adds 0.

    Source:
        VisualBERT (arXiv:1908.03557); transformers' VisualBertForRegionToPhraseAlignment.
    """
    if phrases is None:
        return {}
    # A phrase that was truncated away has no token to read, so its target is zeroed.
    target = phrases.targets.float() * phrases.mask[..., None]
    log_probs = torch.log_softmax(scores.float(), dim=-1)
    # batchmean divides by the number of examples, not of phrases.
    mean = functional.kl_div(log_probs, target, reduction="batchmean")
    return {"phrases": Loss(mean, _number(len(scores), scores))}


def _number(count: int, like: Tensor) -> Float[Tensor, ""]:
    # Filled on the device: a copy from the host would wait for it in the middle of a step.
    return torch.full((), float(count), device=like.device)
