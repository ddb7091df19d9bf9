"""Inputs of a model: a batch of examples as tensors.

Shapes: B: examples; I: images per example (2 for NLVR2); C: choices per example; T: tokens per
text, including padding; R: regions per image, including padding; D: features per region; P: values
per box; L: labels; Q: phrases per example, including padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PretrainingRows:
    """Indices of the tokens and regions that the pretraining heads read, in flattened batches.

    They are found on the host, because a device whose result has a size that depends on values
    makes the host wait.

    Attributes:
        tokens: Masked tokens, as indices into B * T.
        regions: Real regions, as indices into B * R.
        masked: Masked regions, as indices into ``regions``.
    """

    tokens: Int64[Tensor, " K"]
    regions: Int64[Tensor, " K"]
    masked: Int64[Tensor, " K"]


@dataclass(frozen=True, eq=False)
class PretrainingTargets:
    """Targets for the pretraining objectives.

    Attributes:
        mlm_labels: Original ids of the masked tokens; -100 elsewhere.
        is_matched: 1 if the text belongs to the image, 0 if it comes from another image. None if no
            text was replaced or added.
        feat_mask: 1 for masked regions, 0 for others.
        feat_targets: Features of all regions before masking.
        obj_labels, obj_weights: Class id of each region, and the detector's confidence in it. -100
            and 0 for regions without a class; None if the region output has no classes.
        attr_labels, attr_weights: The same for attributes.
        answer_labels: Answer id of an image-QA example; -100 for other examples and unmatched
            texts. None if there is no label space.
        rows: Tokens and regions that the heads read; None: `ModelInputs.pretraining_rows` finds
            them.
    """

    mlm_labels: Int64[Tensor, "B T"]
    is_matched: Int64[Tensor, B] | None
    feat_mask: Float[Tensor, "B R"]
    feat_targets: Float[Tensor, "B R D"]
    obj_labels: Int64[Tensor, "B R"] | None = None
    obj_weights: Float[Tensor, "B R"] | None = None
    attr_labels: Int64[Tensor, "B R"] | None = None
    attr_weights: Float[Tensor, "B R"] | None = None
    answer_labels: Int64[Tensor, B] | None = None
    rows: PretrainingRows | None = None


@dataclass(frozen=True, eq=False)
class PhraseTargets:
    """Phrases of the texts and the regions that they refer to.

    Attributes:
        positions: Index into ``input_ids`` of the last token of each phrase.
        mask: 1 for phrases, 0 for padding and for phrases that were truncated away.
        targets: Probability of each region: equal for all regions with an IoU of at least 0.5 with
            any box of the phrase, 0 for others. Without such a region, all are 0, and the phrase
            always counts as missed.
        spans: Start and end of each phrase of each example, in characters of the text.
    """

    positions: Int64[Tensor, "B Q"]
    mask: Int64[Tensor, "B Q"]
    targets: Float[Tensor, "B Q R"]
    spans: tuple[tuple[tuple[int, int], ...], ...]


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """Batch of examples with the regions of their images.

    With two images per example (NLVR2), the ``visual_*`` tensors have a dimension I = 2 after B.
    With choices (VCR), the text tensors have a dimension C after B.

    Attributes:
        example_ids: Id of each example.
        image_ids: Image ids of each example.
        input_ids, attention_mask, token_type_ids: Encoded texts, padded on the right.
        visual_feats: Region vectors in the dtype of the store; padding is zero.
        visual_pos: Boxes in the model's encoding; None if the model does not read boxes.
        visual_attention_mask: 1 for real regions, 0 for padding.
        targets: Soft score of each label, for losses over the whole label space.
        label_ids: Id of the single correct label or choice; -100 if unknown.
        pretraining: Targets for pretraining; None in fine-tuning.
        phrases: Phrases of grounding datasets; None for other datasets and in pretraining.
        regions: Name of the region output that the batch was read from.
        about: Further fields of each example, such as ``question_type``.
    """

    example_ids: tuple[str, ...]
    image_ids: tuple[tuple[str, ...], ...]
    input_ids: Int64[Tensor, "B *C T"]
    attention_mask: Int64[Tensor, "B *C T"]
    token_type_ids: Int64[Tensor, "B *C T"]
    visual_feats: Float[Tensor, "B *I R D"]
    visual_pos: Float[Tensor, "B *I R P"] | None
    visual_attention_mask: Int64[Tensor, "B *I R"]
    targets: Float[Tensor, "B L"] | None = None
    label_ids: Int64[Tensor, B] | None = None
    pretraining: PretrainingTargets | None = None
    phrases: PhraseTargets | None = None
    regions: str = ""
    about: tuple[Mapping[str, str], ...] = ()

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.example_ids)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> ModelInputs:
        """Return a copy of the batch with all tensors on a device."""
        batch = self
        if self.pretraining is not None and self.pretraining.rows is None:
            rows = self.pretraining_rows()
            if self.visual_feats.is_pinned():
                pinned = {name: tensor.pin_memory() for name, tensor in vars(rows).items()}
                rows = PretrainingRows(**pinned)
            batch = replace(self, pretraining=replace(self.pretraining, rows=rows))
        return replace(batch, **_moved(batch, device, non_blocking))

    def pretraining_rows(self) -> PretrainingRows:
        """Return which tokens and regions the pretraining heads read."""
        targets = self.pretraining
        assert targets is not None
        if targets.rows is not None:
            return targets.rows
        regions = self.visual_attention_mask.flatten().nonzero().squeeze(1)
        return PretrainingRows(
            tokens=(targets.mlm_labels.flatten() != -100).nonzero().squeeze(1),
            regions=regions,
            masked=targets.feat_mask.flatten()[regions].nonzero().squeeze(1),
        )


def _moved(batch: Any, device: torch.device | str, non_blocking: bool) -> dict[str, Any]:
    moved: dict[str, Any] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            moved[field.name] = value.to(device, non_blocking=non_blocking)
        # Nested targets are moved too; ids and spans are not tensors.
        elif isinstance(value, PretrainingTargets | PhraseTargets | PretrainingRows):
            moved[field.name] = replace(value, **_moved(value, device, non_blocking))
    return moved
