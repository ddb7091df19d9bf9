"""VisualBERT for fine-tuning: answers, classes of one or two images, choices, phrases.

Shapes: B examples, I images of an example, R regions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    VisualBertForMultipleChoice,
    VisualBertForQuestionAnswering,
    VisualBertForRegionToPhraseAlignment,
    VisualBertForVisualReasoning,
)

from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs
from vlray.models.build import load_network, names_of
from vlray.models.heads import VisualBertForAnswers
from vlray.models.losses import chosen, in_words, label_losses, phrase_losses
from vlray.models.network import check_goal, looked_at, phrases_of, read, reading, rest
from vlray.models.protocol import Goal, ModelOutputs
from vlray.models.text_start import fill_from_text, starts_from_text
from vlray.models.transformers_model import TransformersModel

ENDS = ("cls.", "attention.")
BOX_NUMBERS = 5
MAX_TOKENS = 128


class VisualBert(TransformersModel):
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
        from_text = starts_from_text(options, goal)
        network_class = VisualBertForAnswers if from_text else _network_class(goal)
        self.network, new = load_network(network_class, options, goal, fields, ENDS)
        if from_text and any(name.startswith(ENDS) for name in new):
            fill_from_text(self.network.cls, self.network.visual_bert, goal.labels)
        self._begin(options, goal, new)
        self._where = _where(options, goal)
        rest(_unused(self.network, self._where, goal))

    def loss_in_words(self) -> str:
        """Say which loss it has."""
        return in_words(self._loss, self.goal.objective)

    @classmethod
    def loader_defaults(cls, options: ModelSection, goal: Goal) -> Mapping[str, Any]:
        """Give no boxes, or their area too; questions with the mask that the answer is read of."""
        return {
            "max_tokens": MAX_TOKENS,
            "boxes": "xyxy_area" if options.box_feats else "none",
            "template": "{text} ? [MASK]" if _where(options, goal) == "mask" else "{text}",
        }

    def forward(self, batch: ModelInputs, *, attention: bool = False) -> ModelOutputs:
        """Compute losses and scores; see `VisionLanguageModel`."""
        batch = self._standardized(batch)
        inputs = self._inputs(batch)
        if self.goal.objective == "phrases":
            phrases = phrases_of(batch)
            places = phrases.positions
            scores = self.network(**inputs, region_to_phrase_position=places).logits
            return ModelOutputs(phrase_losses(scores, phrases), scores.float())
        found = self.network.visual_bert(**inputs, output_attentions=attention, return_dict=True)
        tokens = batch.input_ids.shape[-1]
        weights = reading(self._where, inputs["attention_mask"])
        pooled = found.pooler_output
        if self._where != "first":
            pooled = read(weights, found.last_hidden_state[:, :tokens])
        scores = self.network.cls(self.network.dropout(pooled)).reshape(len(batch), -1)
        looked = None
        if attention:
            of_tokens = found.attentions[-1].mean(1)[:, :tokens, tokens:]
            looked = looked_at(read(weights, of_tokens), batch.visual_attention_mask)
        losses = label_losses(self._loss, scores, batch, self.options.label_smoothing)
        return ModelOutputs(losses, scores.float(), looked)

    def _inputs(self, batch: ModelInputs) -> dict[str, Tensor]:
        """Rename what a batch has.

        The regions of two images are one row, of two kinds; choices become examples of their own.
        """
        visual_embeds = batch.visual_feats.to(self.network.dtype)
        if self.options.box_feats:
            visual_embeds = torch.cat([visual_embeds, box_feats_of(batch)], dim=-1)
        mask = batch.visual_attention_mask
        kinds = torch.zeros_like(mask)
        if self.goal.num_images == 2:
            kinds[:, 1] = 1
        visual = {
            "visual_embeds": visual_embeds,
            "visual_attention_mask": mask,
            "visual_token_type_ids": kinds,
        }
        text = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "token_type_ids": batch.token_type_ids,
        }
        if self.goal.num_images == 2:
            visual = {name: value.flatten(1, 2) for name, value in visual.items()}
        elif self.goal.objective == "choices":
            number = batch.input_ids.shape[1]
            text = {name: value.flatten(0, 1) for name, value in text.items()}
            visual = {name: value.repeat_interleave(number, 0) for name, value in visual.items()}
        return text | visual


def _network_class(goal: Goal) -> Any:
    if goal.objective == "phrases":
        return VisualBertForRegionToPhraseAlignment
    if goal.objective == "choices":
        return VisualBertForMultipleChoice
    return VisualBertForQuestionAnswering if _of_answers(goal) else VisualBertForVisualReasoning


def _of_answers(goal: Goal) -> bool:
    return goal.objective == "labels" and goal.num_images == 1 and not goal.classes


def _where(options: ModelSection, goal: Goal) -> Literal["first", "mask", "mean"]:
    """Say which tokens the scores are read of."""
    if options.pooling == "mean":
        return "mean"
    return "mask" if _of_answers(goal) else "first"


def _unused(network: Any, where: str, goal: Goal) -> list[nn.Module | nn.Parameter]:
    """List what the scores do not depend on; not the head's decoder, which is the embeddings."""
    if goal.objective != "phrases":
        return [] if where == "first" else [network.visual_bert.pooler]
    heads = network.cls
    return [
        network.visual_bert.pooler,
        network.attention.value,
        heads.seq_relationship,
        heads.predictions.transform,
        heads.predictions.bias,
    ]


def box_feats_of(batch: ModelInputs) -> Float[Tensor, "B *I R 5"]:
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
