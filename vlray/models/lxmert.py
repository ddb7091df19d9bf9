"""LXMERT for fine-tuning on answers, classes of one or two images, choices or phrases.

Shapes: B: examples; I: images per example; C: choices per example; T: tokens; H: hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn
from transformers import LxmertForQuestionAnswering, PreTrainedModel

from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs
from vlray.models.answers import load_answer_head
from vlray.models.build import label_fields, load_network
from vlray.models.cross_start import start_near_text
from vlray.models.heads import LxmertForAnswers, LxmertForPairs, LxmertForPhrases
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

HEAD_PREFIXES = ("answer_head.", "pair_head.", "attention.")
"""Name prefixes of the parameters that depend on the labels or the objective."""

CROSS_LAYERS = "lxmert.encoder.x_layers."


class Lxmert(TransformersModel):
    """LXMERT from transformers, with the published losses and heads for its tasks.

    Answers are trained with binary cross-entropy, as on VQA and GQA. Classes and choices are
    trained with cross-entropy, as on NLVR2. An answer head with a single label scores each choice.
    The LXMERT paper has no tasks with choices or phrases.

    Source:
        LXMERT (arXiv:1908.07490); airsplay/lxmert src/tasks.
    """

    def __init__(self, options: ModelSection, goal: Goal) -> None:
        """Build the model; see `VisionLanguageModel`.

        Raises:
            ValueError: The model cannot learn the goal, or the weights do not fit.
        """
        super().__init__()
        self.options, self.goal = options, goal
        check_goal("lxmert", goal, ("labels", "choices", "phrases"))
        if options.box_feats:
            raise ValueError(
                "model.box_feats=true is for models without a box input; lxmert reads the boxes "
                "themselves: remove it"
            )
        answers = goal.objective == "labels" and goal.num_images == 1 and not goal.classes
        self._loss = choose_loss(options, "bce" if answers else "cross-entropy")
        fields: dict[str, object] = {"visual_feat_dim": goal.feature_dim}
        if goal.objective == "labels":
            fields |= {"num_qa_labels": len(goal.labels), **label_fields(goal.labels)}
        elif goal.objective == "choices":
            fields["num_qa_labels"] = 1
        from_text = starts_from_text(options, goal)
        network_class = LxmertForAnswers if from_text else _network_class(goal)
        self.network, new = load_network(network_class, options, goal, fields, HEAD_PREFIXES)
        # A head that the weights already filled is kept.
        if from_text and any(name.startswith(HEAD_PREFIXES) for name in new):
            fill_from_text(
                self.network.answer_head, self.network.lxmert, goal.labels, options.weights
            )
        elif answers and not from_text:
            # Parameters copied from the trained head are not new.
            new -= load_answer_head(self.network, options, goal)
        if options.cross_start == "text" and any(name.startswith(CROSS_LAYERS) for name in new):
            start_near_text(self.network.lxmert)
        self._set_up(options, goal, new)
        # The published model predicts from the pooled [CLS] token.
        self._pooling: Literal["first", "mean"] = "mean" if options.pooling == "mean" else "first"
        freeze_unused(_unused(self.network, self._pooling, goal))

    def loss_in_words(self) -> str:
        """Describe the loss."""
        return describe_loss(self._loss, self.goal.objective)

    @classmethod
    def loader_defaults(cls, options: ModelSection, goal: Goal) -> Mapping[str, object]:
        """Return LXMERT's loader options: normalized boxes, and texts without a template.

        Texts are truncated to 20 tokens for labels, as published, and to 128 for other objectives.
        """
        max_tokens = 20 if goal.objective == "labels" else 128
        return {"boxes": "xyxy", "template": "{text}", "max_tokens": max_tokens}

    def forward(self, batch: ModelInputs, *, attention: bool = False) -> ModelOutputs:
        """Compute losses and scores; see `VisionLanguageModel`."""
        batch = self._standardize_regions(batch)
        inputs = self._inputs(batch)
        if self.goal.objective == "phrases":
            phrases = get_phrases(batch)
            scores = self.network(**inputs, region_to_phrase_position=phrases.positions)
            return ModelOutputs(phrase_losses(scores, phrases), scores.float())
        outputs = self.network.lxmert(**inputs, output_attentions=attention, return_dict=True)
        token_weights = pooling_weights(self._pooling, inputs["attention_mask"])
        pooled = outputs.pooled_output
        if self._pooling == "mean":
            pooled = weighted_sum(token_weights, outputs.language_output)
        if self.goal.num_images == 2:
            # Concatenate the vectors of both images: (B * 2, H) -> (B, 2 * H).
            scores = self.network.pair_head(pooled.reshape(len(batch), -1))
        else:
            scores = self.network.answer_head(pooled).reshape(len(batch), -1)
        region_attention = None
        if attention:
            # Text-to-region attention in the last cross-modal layer, averaged over the heads.
            attention_probs = outputs.cross_encoder_attentions[-1].mean(1)
            region_attention = attention_to_regions(
                weighted_sum(token_weights, attention_probs), batch.visual_attention_mask
            )
        losses = label_losses(self._loss, scores, batch, self.options.label_smoothing)
        if self.auxiliary and losses:
            embed = self.network.lxmert.encoder.visn_fc
            losses |= self.auxiliary(embed(inputs["visual_feats"], inputs["visual_pos"]), batch)
        return ModelOutputs(losses, scores.float(), region_attention)

    def _inputs(self, batch: ModelInputs) -> dict[str, Tensor]:
        """Return the tensors of a batch as keyword arguments for LXMERT.

        Each image of a pair and each choice of an example becomes a separate row.
        """
        pos_dim = self.network.config.visual_pos_dim
        if batch.visual_pos is None or batch.visual_pos.shape[-1] != pos_dim:
            batch_dim = 0 if batch.visual_pos is None else batch.visual_pos.shape[-1]
            raise ValueError(
                f"the boxes of the batch have {batch_dim} numbers each, but lxmert reads "
                f"{pos_dim}; remove loader.boxes, or set model.architecture.visual_pos_dim"
            )
        text = {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "token_type_ids": batch.token_type_ids,
        }
        visual = {
            "visual_feats": batch.visual_feats.to(self.network.dtype),
            "visual_pos": batch.visual_pos.to(self.network.dtype),
            "visual_attention_mask": batch.visual_attention_mask,
        }
        if self.goal.num_images == 2:
            # Repeat the text for each image: (B, T) -> (B * I, T).
            text = {name: value.repeat_interleave(2, 0) for name, value in text.items()}
            visual = {name: value.flatten(0, 1) for name, value in visual.items()}
        elif self.goal.objective == "choices":
            num_choices = batch.input_ids.shape[1]
            # Each choice is a row, paired with the same regions: (B, C, T) -> (B * C, T).
            text = {name: value.flatten(0, 1) for name, value in text.items()}
            visual = {
                name: value.repeat_interleave(num_choices, 0) for name, value in visual.items()
            }
        return text | visual


def _network_class(goal: Goal) -> type[PreTrainedModel]:
    if goal.objective == "phrases":
        return LxmertForPhrases
    return LxmertForPairs if goal.num_images == 2 else LxmertForQuestionAnswering


def _unused(network: PreTrainedModel, pooling: str, goal: Goal) -> list[nn.Module | nn.Parameter]:
    """List the modules and parameters that the scores do not depend on.

    In the last cross-modal layer, the scores depend on the text side only.
    """
    lxmert = network.lxmert
    if goal.objective == "phrases":
        # The head returns its attention scores, so its value layer is never used.
        return [lxmert.pooler, network.attention.value]
    last = lxmert.encoder.x_layers[-1]
    region_layers = [last.visn_self_att, last.visn_inter, last.visn_output]
    return region_layers if pooling == "first" else [*region_layers, lxmert.pooler]
