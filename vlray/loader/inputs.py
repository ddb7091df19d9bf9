"""What a model gets: a batch of examples as tensors.

Shapes: B examples, T tokens, R regions padding included, D feature length, P numbers of a box,
I images of an example (NLVR2: 2), L labels, Q phrases padding included.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PretrainingTargets:
    """What was masked, and what has to be found again.

    Attributes:
        mlm_labels: The token that was at a masked place; -100 elsewhere.
        is_matched: 1 if the text belongs to the image, 0 if it is of another one; None where every
            text stays with its image.
        feat_mask: 1 for the regions that were masked.
        feat_targets: Their features before; all regions, masked or not.
        obj_labels, obj_weights: Class of each region and the detector's confidence in it.
        attr_labels, attr_weights: The same for attributes; None where the detector has none.
        answer_labels: Answer of an image-QA example; -100 for others, and unmatched texts.
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


@dataclass(frozen=True, eq=False)
class PhraseTargets:
    """Phrases of the texts, and the regions that they speak of.

    Attributes:
        positions: The last token of each phrase, as an index into ``input_ids``.
        mask: 1 for phrases, 0 for padding and for what the end of a long text was cut off with.
        targets: Share of each region in the phrase: those with an IoU of 0.5 or more with one of
            its boxes share it alike. Zero where there is none; such phrases can only be missed.
        spans: Of each example's phrases: start and end in its text, in characters.
    """

    positions: Int64[Tensor, "B Q"]
    mask: Int64[Tensor, "B Q"]
    targets: Float[Tensor, "B Q R"]
    spans: tuple[tuple[tuple[int, int], ...], ...]


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """A batch: examples joined with the regions of their images.

    With two images an example (NLVR2), ``visual_*`` have a dimension I = 2 after B. With choices
    (VCR), the tokens have a dimension C after B.

    Attributes:
        example_ids: The examples, in the order of the rows.
        image_ids: Their images.
        input_ids, attention_mask, token_type_ids: The text, padded on the right.
        visual_feats: Region vectors, in the dtype they are stored in; padding is zero.
        visual_pos: Boxes as the model wants them; None: it wants none.
        visual_attention_mask: 1 for real regions, 0 for padding.
        targets: Soft score of each label, for losses over the whole label space.
        label_ids: The one right label (or choice); -100: unknown.
        pretraining: What was masked; None in fine-tuning.
        phrases: Of grounding datasets; None for others, and in pretraining.
        regions: Name of the region output that the batch is of.
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

    def __len__(self) -> int:
        """Give the number of examples."""
        return len(self.example_ids)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> ModelInputs:
        """Move every tensor to a device."""
        return replace(self, **_moved(self, device, non_blocking))


def _moved(batch: Any, device: torch.device | str, non_blocking: bool) -> dict[str, Any]:
    moved: dict[str, Any] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor):
            moved[field.name] = value.to(device, non_blocking=non_blocking)
        elif isinstance(value, PretrainingTargets | PhraseTargets):
            moved[field.name] = replace(value, **_moved(value, device, non_blocking))
    return moved
