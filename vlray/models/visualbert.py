"""VisualBERT for fine-tuning: answers, classes of one or two images, choices, phrases.

Shapes: B examples, I images of an example, R regions; N texts (B, or B * C choices), S tokens and
regions together.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import (
    VisualBertForMultipleChoice,
    VisualBertForQuestionAnswering,
    VisualBertForRegionToPhraseAlignment,
    VisualBertForVisualReasoning,
)

from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs
from vlray.models.build import load_network, names_of, save_network
from vlray.models.losses import chosen, label_losses, phrase_losses
from vlray.models.network import check_goal, looked_at, phrases_of, rest
from vlray.models.protocol import Goal, ModelOutputs

ENDS = ("cls.", "attention.")
BOX_NUMBERS = 5


class VisualBert(nn.Module):
    """VisualBERT of transformers, with the losses and conventions of its recipes.

    Answers are read of the token before the last, which is a [MASK] behind the question; of VQA's
    soft scores there is the Kullback-Leibler divergence. All else is read of [CLS], with
    cross-entropy.

    The regions of one image are of kind 0, those of a second one of kind 1, as in the original and
    so in what it published; transformers' documentation and default say 1.

    Source:
        VisualBERT (arXiv:1908.03557); uclanlp/visualbert visualbert/dataloaders.
    """

    def __init__(self, options: ModelSection, goal: Goal) -> None:
        """Build it; see `VisionLanguageModel`.

        Raises:
            ValueError: The goal is none that it can learn, or the weights do not fit.
        """
        super().__init__()
        self.options, self.goal = options, goal
        check_goal("visualbert", goal, ("labels", "choices", "phrases"))
        self._loss = chosen(options, "kl" if goal.soft else "cross-entropy")
        fields: dict[str, Any] = {"visual_embedding_dim": goal.feature_dim}
        if options.box_feats:
            fields["visual_embedding_dim"] += BOX_NUMBERS
        if goal.objective == "labels":
            fields |= names_of(goal.labels)
        self.network, new = load_network(_network_class(goal), options, goal, fields, ENDS)
        self._new = frozenset(f"network.{name}" for name in new)
        rest(_unused(self.network, goal))

    @classmethod
    def loader_defaults(cls, options: ModelSection, goal: Goal) -> Mapping[str, Any]:
        """Give no boxes, or their area too; questions with the mask that the answer is read of."""
        return {
            "boxes": "xyxy_area" if options.box_feats else "none",
            "template": "{text} ? [MASK]" if _reads_mask(goal) else "{text}",
        }

    def forward(self, batch: ModelInputs, *, attention: bool = False) -> ModelOutputs:
        """Compute losses and scores; see `VisionLanguageModel`."""
        inputs = self._inputs(batch)
        if self.goal.objective == "phrases":
            phrases = phrases_of(batch)
            places = phrases.positions
            scores = self.network(**inputs, region_to_phrase_position=places).logits
            return ModelOutputs(phrase_losses(scores, phrases), scores.float())
        found = self.network(**inputs, output_attentions=attention, return_dict=True)
        looked = None
        if attention:
            looked = self._looked_at(found.attentions[-1].mean(1), batch)
        losses = label_losses(self._loss, found.logits, batch, self.options.label_smoothing)
        return ModelOutputs(losses, found.logits.float(), looked)

    def save(self, folder: Path) -> None:
        """Write it for transformers."""
        save_network(self.network, folder)

    def new_parameters(self) -> frozenset[str]:
        """Name the parameters that ``weights`` did not fill."""
        return self._new

    def _inputs(self, batch: ModelInputs) -> dict[str, Tensor]:
        """Rename what a batch has; the regions of two images are one row, of two kinds."""
        visual_embeds = batch.visual_feats.to(self.network.dtype)
        if self.options.box_feats:
            visual_embeds = torch.cat([visual_embeds, box_feats_of(batch)], dim=-1)
        mask = batch.visual_attention_mask
        kinds = torch.zeros_like(mask)  # as in the original; transformers' own default is 1
        if self.goal.num_images == 2:
            kinds[:, 1] = 1
            visual_embeds, mask, kinds = (x.flatten(1, 2) for x in (visual_embeds, mask, kinds))
        elif self.goal.objective == "choices":
            number = batch.input_ids.shape[1]
            visual_embeds, mask, kinds = (
                x[:, None].expand(-1, number, *x.shape[1:]).contiguous()
                for x in (visual_embeds, mask, kinds)
            )
        return {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "token_type_ids": batch.token_type_ids,
            "visual_embeds": visual_embeds,
            "visual_attention_mask": mask,
            "visual_token_type_ids": kinds,
        }

    def _looked_at(
        self, weights: Float[Tensor, "N S S"], batch: ModelInputs
    ) -> Float[Tensor, "B *I R"]:
        """Take the row of the token that the scores are read of, and its columns of regions."""
        row: Int64[Tensor, N]
        if _reads_mask(self.goal):
            row = batch.attention_mask.sum(1) - 2
        else:
            row = torch.zeros(len(weights), dtype=torch.long, device=weights.device)
        picked = weights[torch.arange(len(weights), device=weights.device), row]
        return looked_at(picked[:, batch.input_ids.shape[-1] :], batch.visual_attention_mask)


def _network_class(goal: Goal) -> Any:
    if goal.objective == "phrases":
        return VisualBertForRegionToPhraseAlignment
    if goal.objective == "choices":
        return VisualBertForMultipleChoice
    return VisualBertForQuestionAnswering if _reads_mask(goal) else VisualBertForVisualReasoning


def _unused(network: Any, goal: Goal) -> list[nn.Module | nn.Parameter]:
    """List what the scores do not depend on; not the head's decoder, which is the embeddings."""
    if goal.objective != "phrases":
        return [network.visual_bert.pooler] if _reads_mask(goal) else []
    heads = network.cls
    return [
        network.visual_bert.pooler,
        network.attention.value,
        heads.seq_relationship,
        heads.predictions.transform,
        heads.predictions.bias,
    ]


def _reads_mask(goal: Goal) -> bool:
    """Whether the scores are read of the token before the last, not of [CLS]."""
    return goal.objective == "labels" and goal.num_images == 1 and not goal.classes


def box_feats_of(batch: ModelInputs) -> Float[Tensor, "B *I R 5"]:
    """Give what is appended to the regions' vectors.

    Raises:
        ValueError: The batch has other numbers of its boxes, or none.
    """
    """Give what ``model.box_feats`` puts behind the vector of a region.

    Raises:
        ValueError: The batch has no such boxes.
    """
    pos = batch.visual_pos
    if pos is None or pos.shape[-1] != BOX_NUMBERS:
        raise ValueError(
            f"model.box_feats=true wants {BOX_NUMBERS} numbers of each box, but the batch has "
            f"{0 if pos is None else pos.shape[-1]}; leave loader.boxes out"
        )
    return pos
