"""Losses of pre-training: masked tokens, masked regions, matching, and image question answering.

Shapes: B examples, T tokens, R regions padding included, K of these that are scored, H hidden size,
V word pieces, D feature length.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from vlray.config.loader import PretrainingSection
from vlray.loader.inputs import PretrainingTargets
from vlray.models.losses import UNKNOWN, cross_entropy
from vlray.models.protocol import Loss

MATCHING = PretrainingSection(token_rate=0, region_rate=0, sentences="one")
"""Of batches that matching is learned from: half of the texts are of another image."""

States = Float[Tensor, "K H"]


def token_loss(
    head: Callable[[States], Float[Tensor, "K V"]],
    states: Float[Tensor, "B T H"],
    labels: Int64[Tensor, "B T"],
) -> Loss:
    """Compute the loss of masked language modelling.

    Only the masked tokens are put through the head: one in seven of them, and the vocabulary is the
    most expensive part of a small model.

    Args:
        head: Scores of the word pieces.
        states: Last states of the tokens.
        labels: What was at the masked places; -100 elsewhere.

    Source:
        BERT (arXiv:1810.04805); airsplay/lxmert src/lxrt/modeling.py, LXRTPretraining.
    """
    chosen = labels != UNKNOWN
    return cross_entropy(head(states[chosen]), labels[chosen])


def region_losses(
    transform: Callable[[States], States],
    decoders: nn.ModuleDict,
    states: Float[Tensor, "B R H"],
    real: Bool[Tensor, "B R"],
    targets: PretrainingTargets,
    normalizer: float,
) -> dict[str, Loss]:
    """Compute the losses of masked object prediction.

    Classes and attributes are those that the detector gave, of all regions, masked or not, weighted
    by how sure it was; features are found again where they were masked. Each is a mean over all
    regions times ``normalizer``, as LXMERT has it: not over those that were masked.

    Args:
        transform: What the decoders read of a state.
        decoders: By ``obj``, ``attr`` and ``feat``; there is a loss for each that there is a
            decoder and a target of.
        states: Last states of the regions.
        real: Which regions are no padding. LXMERT knows no padding; here it does not count.
        targets: What the regions were.
        normalizer: LXMERT: 1 / 0.15. Hugging Face: 6.67.

    Source:
        airsplay/lxmert src/lxrt/modeling.py, LXRTPretraining and VisualConfig.
    """
    read = transform(states[real])
    count = real.sum()
    losses = {}
    for name in ("obj", "attr"):
        labels = getattr(targets, f"{name}_labels")
        if labels is not None and name in decoders:
            scores = decoders[name](read).float()
            each = functional.cross_entropy(
                scores, labels[real], ignore_index=UNKNOWN, reduction="none"
            )
            weighted = (each * getattr(targets, f"{name}_weights")[real]).sum()
            losses[name] = _mean(weighted * normalizer, count)
    if "feat" in decoders:
        masked = targets.feat_mask[real] > 0
        found = decoders["feat"](read[masked]).float()
        wanted = targets.feat_targets[real][masked].float()
        each = functional.smooth_l1_loss(found, wanted, reduction="none").mean(dim=1)
        losses["feat"] = _mean(each.sum() * normalizer, count)
    return losses


def matched_score(scores: Float[Tensor, "B 2"]) -> Float[Tensor, B]:
    """Give how much more likely it is that text and image belong together than that they do not."""
    return scores[:, 1].float() - scores[:, 0].float()


def _mean(total: Float[Tensor, ""], count: Int64[Tensor, ""]) -> Loss:
    return Loss(total / count.clamp(min=1), count.to(torch.float32))
