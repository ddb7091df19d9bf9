"""Pretraining losses: masked tokens, masked regions, matching, and image question answering.

Shapes: B: examples; T: tokens; R: regions per image, including padding; K: selected tokens or
regions; H: hidden size; V: word pieces in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from vlray.config.loader import PretrainingSection
from vlray.loader.inputs import PretrainingRows, PretrainingTargets
from vlray.models.losses import IGNORE_INDEX, cross_entropy
from vlray.models.protocol import Loss

MATCHING = PretrainingSection(token_rate=0, region_rate=0, sentences="one")
"""Loader options for matching: nothing is masked, and half of the texts come from other images."""

States = Float[Tensor, "K H"]


def token_loss(
    head: Callable[[States], Float[Tensor, "K V"]],
    states: Float[Tensor, "B T H"],
    labels: Int64[Tensor, "B T"],
    rows: Int64[Tensor, " K"],
) -> Loss:
    """Compute the loss of masked language modelling.

    The head runs only on the masked tokens, about one in seven, because the vocabulary scores are
    the most expensive part of a small model.

    Args:
        head: Function from token states to the scores of all word pieces.
        states: Last hidden states of the tokens.
        labels: Original ids of the masked tokens; -100 elsewhere.
        rows: The masked tokens; see `PretrainingRows`.

    Source:
        BERT (arXiv:1810.04805); airsplay/lxmert src/lxrt/modeling.py, LXRTPretraining.
    """
    return cross_entropy(head(states.flatten(0, 1)[rows]), labels.flatten()[rows])


def region_losses(
    transform: Callable[[States], States],
    decoders: nn.ModuleDict,
    states: Float[Tensor, "B R H"],
    rows: PretrainingRows,
    targets: PretrainingTargets,
    normalizer: float,
) -> dict[str, Loss]:
    """Compute the losses of masked object prediction.

    The class and attribute losses cover all regions, masked or not. Their labels are the detector's
    predictions, weighted by the detector's confidence. The feature loss covers masked regions only.
    As in LXMERT, each loss is ``normalizer`` times the mean over all regions, not over the masked
    ones.

    Args:
        transform: Layers that the decoders share.
        decoders: Decoders, keyed by ``obj``, ``attr`` and ``feat``. A loss is computed for each
            decoder that has targets.
        states: Last hidden states of the regions.
        rows: Real and masked regions. Padding does not count; LXMERT has none.
        targets: Class and attribute labels, and the features before masking.
        normalizer: 1 / 0.15 in LXMERT, 6.67 in Hugging Face transformers.

    Source:
        airsplay/lxmert src/lxrt/modeling.py, LXRTPretraining and VisualConfig.
    """
    real = rows.regions
    # Padding is removed before the heads run: (B, R, H) -> (K, H).
    hidden = transform(states.flatten(0, 1)[real])
    count = torch.full((), len(real), device=hidden.device)
    losses = {}
    for name in ("obj", "attr"):
        labels = getattr(targets, f"{name}_labels")
        if labels is not None and name in decoders:
            scores = decoders[name](hidden).float()
            # Not reduced yet, because each region is weighted by the detector's confidence.
            per_region = functional.cross_entropy(
                scores, labels.flatten()[real], ignore_index=IGNORE_INDEX, reduction="none"
            )
            weighted = (per_region * getattr(targets, f"{name}_weights").flatten()[real]).sum()
            losses[name] = _mean(weighted * normalizer, count)
    if "feat" in decoders:
        predicted = decoders["feat"](hidden[rows.masked]).float()
        expected = targets.feat_targets.flatten(0, 1)[real][rows.masked].float()
        per_region = functional.smooth_l1_loss(predicted, expected, reduction="none").mean(dim=1)
        losses["feat"] = _mean(per_region.sum() * normalizer, count)
    return losses


def matched_score(scores: Float[Tensor, "B 2"]) -> Float[Tensor, B]:
    """Return the logit for a matching pair minus the logit for a mismatched pair."""
    return scores[:, 1].float() - scores[:, 0].float()


def _mean(total: Float[Tensor, ""], count: Int64[Tensor, ""]) -> Loss:
    # Without real regions, the clamped count makes the loss 0, not NaN.
    return Loss(total / count.clamp(min=1), count.to(torch.float32))
