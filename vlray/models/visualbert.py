"""VisualBERT for fine-tuning on answers, classes of one or two images, choices or phrases.

Shapes: B: examples; I: images per example; C: choices per example; T: tokens; R: regions per image,
including padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    VisualBertForMultipleChoice,
    VisualBertForQuestionAnswering,
    VisualBertForRegionToPhraseAlignment,
    VisualBertForVisualReasoning,
)

from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs
from vlray.models.build import label_fields, load_network
from vlray.models.heads import VisualBertForAnswers
from vlray.models.losses import choose_loss, describe_loss, label_losses, phrase_losses
from vlray.models.network import (
    attention_to_regions,
    check_goal,
    freeze_unused,
    get_phrases,
    pooling_weights,
    weighted_sum,
)
from vlray.models.protocol import Goal, ModelOutputs
from vlray.models.text_start import fill_from_text, starts_from_text
from vlray.models.transformers_model import TransformersModel

HEAD_PREFIXES = ("cls.", "attention.")
"""Name prefixes of the parameters that depend on the labels or the objective."""

BOX_NUMBERS = 5
"""Number of values per box that ``model.box_feats`` appends: x1, y1, x2, y2, area."""

MAX_TOKENS = 128


class VisualBert(TransformersModel):
    """VisualBERT from transformers, with the published losses and conventions for its tasks.

    Answers are predicted from the second-to-last token, a [MASK] after the question. Labels with
    soft scores (VQA) are trained with the Kullback-Leibler divergence, other labels and choices
    with cross-entropy. Classes and choices are predicted from [CLS].

    Regions of the first image have token type 0, and regions of a second image have type 1, as in
    the original code and the published checkpoints. In transformers, the default is 1.

    Source:
        VisualBERT (arXiv:1908.03557); uclanlp/visualbert visualbert/dataloaders.
    """

    def __init__(self, options: ModelSection, goal: Goal) -> None:
        """Build the model; see `VisionLanguageModel`.

        Raises:
            ValueError: The model cannot learn the goal, or the weights do not fit.
        """
        super().__init__()
        self.options, self.goal = options, goal
        check_goal("visualbert", goal, ("labels", "choices", "phrases"))
        self._loss = choose_loss(options, "kl" if goal.soft else "cross-entropy")
        fields: dict[str, Any] = {"visual_embedding_dim": goal.feature_dim}
        if options.box_feats:
            fields["visual_embedding_dim"] += BOX_NUMBERS
        if goal.objective == "labels":
            fields |= label_fields(goal.labels)
        from_text = starts_from_text(options, goal)
        network_class = VisualBertForAnswers if from_text else _network_class(goal)
        self.network, new = load_network(network_class, options, goal, fields, HEAD_PREFIXES)
        # A head that the weights already filled is kept.
        if from_text and any(name.startswith(HEAD_PREFIXES) for name in new):
            fill_from_text(self.network.cls, self.network.visual_bert, goal.labels, options.weights)
        self._set_up(options, goal, new)
        self._pooling = _pooling(options, goal)
        freeze_unused(_unused(self.network, self._pooling, goal))

    def loss_in_words(self) -> str:
        """Describe the loss."""
        return describe_loss(self._loss, self.goal.objective)

    @classmethod
    def loader_defaults(cls, options: ModelSection, goal: Goal) -> Mapping[str, object]:
        """Return VisualBERT's loader options: up to 128 tokens; boxes only with ``box_feats``.

        Questions end with the [MASK] from which the answer is predicted. They lose their commas
        and question marks, as in the training of the published VQA checkpoints.
        """
        asks = _pooling(options, goal) == "mask"
        return {
            "max_tokens": MAX_TOKENS,
            "boxes": "xyxy_area" if options.box_feats else "none",
            "template": "{text} ? [MASK]" if asks else "{text}",
            "punctuation": "visualbert" if asks else "keep",
        }

    def forward(self, batch: ModelInputs, *, attention: bool = False) -> ModelOutputs:
        """Compute losses and scores; see `VisionLanguageModel`."""
        batch = self._standardize_regions(batch)
        inputs = self._inputs(batch)
        if self.goal.objective == "phrases":
            phrases = get_phrases(batch)
            positions = phrases.positions
            scores = self.network(**inputs, region_to_phrase_position=positions).logits
            return ModelOutputs(phrase_losses(scores, phrases), scores.float())
        outputs = self.network.visual_bert(**inputs, output_attentions=attention, return_dict=True)
        tokens = batch.input_ids.shape[-1]
        token_weights = pooling_weights(self._pooling, inputs["attention_mask"])
        # The sequence consists of the tokens, then the regions.
        pooled = outputs.pooler_output
        if self._pooling != "first":
            pooled = weighted_sum(token_weights, outputs.last_hidden_state[:, :tokens])
        scores = self.network.cls(self.network.dropout(pooled)).reshape(len(batch), -1)
        region_attention = None
        if attention:
            # Text-to-region attention in the last layer, averaged over the heads.
            attention_probs = outputs.attentions[-1].mean(1)[:, :tokens, tokens:]
            region_attention = attention_to_regions(
                weighted_sum(token_weights, attention_probs), batch.visual_attention_mask
            )
        losses = label_losses(self._loss, scores, batch, self.options.label_smoothing)
        if self.auxiliary and losses:
            embed = self.network.visual_bert.embeddings.visual_projection
            losses |= self.auxiliary(embed(inputs["visual_embeds"]), batch)
        return ModelOutputs(losses, scores.float(), region_attention)

    def _inputs(self, batch: ModelInputs) -> dict[str, Tensor]:
        """Return the tensors of a batch as keyword arguments for VisualBERT.

        The regions of two images are concatenated and differ in token type. Each choice of an
        example becomes a separate row.
        """
        # Features may be stored as float16, whatever the precision of the network.
        visual_embeds = batch.visual_feats.to(self.network.dtype)
        if self.options.box_feats:
            visual_embeds = torch.cat([visual_embeds, box_feats_of(batch)], dim=-1)
        mask = batch.visual_attention_mask
        region_types = torch.zeros_like(mask)
        if self.goal.num_images == 2:
            region_types[:, 1] = 1
        visual = {
            "visual_embeds": visual_embeds,
            "visual_attention_mask": mask,
            "visual_token_type_ids": region_types,
        }
        text = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "token_type_ids": batch.token_type_ids,
        }
        if self.goal.num_images == 2:
            # Both images form one sequence: (B, I, R) -> (B, I * R).
            visual = {name: value.flatten(1, 2) for name, value in visual.items()}
        elif self.goal.objective == "choices":
            num_choices = batch.input_ids.shape[1]
            # Each choice is a row, paired with the same regions: (B, C, T) -> (B * C, T).
            text = {name: value.flatten(0, 1) for name, value in text.items()}
            visual = {
                name: value.repeat_interleave(num_choices, 0) for name, value in visual.items()
            }
        return text | visual


def _network_class(goal: Goal) -> Any:
    if goal.objective == "phrases":
        return VisualBertForRegionToPhraseAlignment
    if goal.objective == "choices":
        return VisualBertForMultipleChoice
    return VisualBertForQuestionAnswering if _has_answers(goal) else VisualBertForVisualReasoning


def _has_answers(goal: Goal) -> bool:
    return goal.objective == "labels" and goal.num_images == 1 and not goal.classes


def _pooling(options: ModelSection, goal: Goal) -> Literal["first", "mask", "mean"]:
    """Return the tokens from which the scores are predicted; see `pooling_weights`."""
    if options.pooling == "mean":
        return "mean"
    return "mask" if _has_answers(goal) else "first"


def _unused(network: PreTrainedModel, pooling: str, goal: Goal) -> list[nn.Module | nn.Parameter]:
    """List the modules and parameters that the scores do not depend on.

    The decoder of the pretraining head is not listed, because it shares its weight with the token
    embeddings.
    """
    if goal.objective != "phrases":
        return [] if pooling == "first" else [network.visual_bert.pooler]
    heads = network.cls
    return [
        network.visual_bert.pooler,
        network.attention.value,
        heads.seq_relationship,
        heads.predictions.transform,
        heads.predictions.bias,
    ]


def box_feats_of(batch: ModelInputs) -> Float[Tensor, "B *I R 5"]:
    """Return the box values that ``model.box_feats`` appends to region vectors.

    Raises:
        ValueError: The boxes of the batch do not have five values each.
    """
    pos = batch.visual_pos
    if pos is None or pos.shape[-1] != BOX_NUMBERS:
        raise ValueError(
            f"model.box_feats=true needs {BOX_NUMBERS} numbers per box, but the batch has "
            f"{0 if pos is None else pos.shape[-1]}; remove loader.boxes"
        )
    return pos
