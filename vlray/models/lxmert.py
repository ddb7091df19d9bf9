"""LXMERT for fine-tuning: answers, classes of one or two images, choices, phrases.

Shapes: see `vlray.loader.inputs` and `vlray.models.protocol`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn
from transformers import LxmertForQuestionAnswering

from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs
from vlray.models.answers import load_answer_head
from vlray.models.build import load_network, names_of
from vlray.models.heads import LxmertForAnswers, LxmertForPairs, LxmertForPhrases
from vlray.models.losses import chosen, in_words, label_losses, phrase_losses
from vlray.models.network import check_goal, looked_at, phrases_of, read, reading, rest
from vlray.models.protocol import Goal, ModelOutputs
from vlray.models.text_start import fill_from_text, starts_from_text
from vlray.models.transformers_model import TransformersModel

ENDS = ("answer_head.", "pair_head.", "attention.")


class Lxmert(TransformersModel):
    """LXMERT of transformers, with the losses and heads of its recipes.

    Answers have binary cross-entropy, as of VQA and GQA; classes and choices cross-entropy, as of
    NLVR2. A choice is scored by an answer head of one label; LXMERT was not published for choices
    or phrases.

    Source:
        LXMERT (arXiv:1908.07490); airsplay/lxmert src/tasks.
    """

    def __init__(self, options: ModelSection, goal: Goal) -> None:
        """Build it; see `VisionLanguageModel`.

        Raises:
            ValueError: The goal is none that it can learn, or the weights do not fit.
        """
        super().__init__()
        self.options, self.goal = options, goal
        check_goal("lxmert", goal, ("labels", "choices", "phrases"))
        if options.box_feats:
            raise ValueError(
                "model.box_feats=true is for models that are told of no places otherwise; "
                "lxmert reads the boxes themselves: leave it out"
            )
        answers = goal.objective == "labels" and goal.num_images == 1 and not goal.classes
        self._loss = chosen(options, "bce" if answers else "cross-entropy")
        fields: dict[str, Any] = {"visual_feat_dim": goal.feature_dim}
        if goal.objective == "labels":
            fields |= {"num_qa_labels": len(goal.labels), **names_of(goal.labels)}
        elif goal.objective == "choices":
            fields["num_qa_labels"] = 1
        from_text = starts_from_text(options, goal)
        network_class = LxmertForAnswers if from_text else _network_class(goal)
        self.network, new = load_network(network_class, options, goal, fields, ENDS)
        if from_text and any(name.startswith(ENDS) for name in new):
            fill_from_text(self.network.answer_head, self.network.lxmert, goal.labels)
        elif answers and not from_text:
            new -= load_answer_head(self.network, options, goal)
        self._begin(options, goal, new)
        self._where: Literal["first", "mean"] = "mean" if options.pooling == "mean" else "first"
        rest(_unused(self.network, self._where, goal))

    def loss_in_words(self) -> str:
        """Say which loss it has."""
        return in_words(self._loss, self.goal.objective)

    @classmethod
    def loader_defaults(cls, options: ModelSection, goal: Goal) -> Mapping[str, Any]:
        """Give boxes, and texts as they are; long ones where LXMERT was not published."""
        max_tokens = 20 if goal.objective == "labels" else 128
        return {"boxes": "xyxy", "template": "{text}", "max_tokens": max_tokens}

    def forward(self, batch: ModelInputs, *, attention: bool = False) -> ModelOutputs:
        """Compute losses and scores; see `VisionLanguageModel`."""
        batch = self._standardized(batch)
        inputs = self._inputs(batch)
        if self.goal.objective == "phrases":
            phrases = phrases_of(batch)
            scores = self.network(**inputs, region_to_phrase_position=phrases.positions)
            return ModelOutputs(phrase_losses(scores, phrases), scores.float())
        found = self.network.lxmert(**inputs, output_attentions=attention, return_dict=True)
        weights = reading(self._where, inputs["attention_mask"])
        pooled = found.pooled_output
        if self._where == "mean":
            pooled = read(weights, found.language_output)
        if self.goal.num_images == 2:
            scores = self.network.pair_head(pooled.reshape(len(batch), -1))
        else:
            scores = self.network.answer_head(pooled).reshape(len(batch), -1)
        looked = None
        if attention:
            of_tokens = found.cross_encoder_attentions[-1].mean(1)
            looked = looked_at(read(weights, of_tokens), batch.visual_attention_mask)
        losses = label_losses(self._loss, scores, batch, self.options.label_smoothing)
        return ModelOutputs(losses, scores.float(), looked)

    def _inputs(self, batch: ModelInputs) -> dict[str, Tensor]:
        """Rename what a batch has; images of a pair, and choices, become examples of their own."""
        pos_dim = self.network.config.visual_pos_dim
        if batch.visual_pos is None or batch.visual_pos.shape[-1] != pos_dim:
            found = 0 if batch.visual_pos is None else batch.visual_pos.shape[-1]
            raise ValueError(
                f"the boxes of the batch are {found} numbers each, but lxmert reads {pos_dim}; "
                "leave loader.boxes out, or give model.architecture.visual_pos_dim"
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
            text = {name: value.repeat_interleave(2, 0) for name, value in text.items()}
            visual = {name: value.flatten(0, 1) for name, value in visual.items()}
        elif self.goal.objective == "choices":
            number = batch.input_ids.shape[1]
            text = {name: value.flatten(0, 1) for name, value in text.items()}
            visual = {name: value.repeat_interleave(number, 0) for name, value in visual.items()}
        return text | visual


def _network_class(goal: Goal) -> Any:
    if goal.objective == "phrases":
        return LxmertForPhrases
    return LxmertForPairs if goal.num_images == 2 else LxmertForQuestionAnswering


def _unused(network: Any, where: str, goal: Goal) -> list[nn.Module | nn.Parameter]:
    """List what the scores do not depend on."""
    lxmert = network.lxmert
    if goal.objective == "phrases":
        return [lxmert.pooler, network.attention.value]
    last = lxmert.encoder.x_layers[-1]
    of_regions = [last.visn_self_att, last.visn_inter, last.visn_output]
    return of_regions if where == "first" else [*of_regions, lxmert.pooler]
