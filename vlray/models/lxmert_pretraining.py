"""LXMERT's pre-training, and matching of texts and images from it.

Shapes: B examples, T tokens, R regions, D feature length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import LxmertForPreTraining

from vlray.config.loader import PretrainingSection
from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs
from vlray.models.answers import load_answer_head
from vlray.models.build import load_network, names_of
from vlray.models.losses import cross_entropy
from vlray.models.network import rest
from vlray.models.pretraining import (
    MATCHING,
    matched_score,
    region_losses,
    token_loss,
)
from vlray.models.protocol import Goal, Loss, ModelOutputs
from vlray.models.transformers_model import TransformersModel
from vlray.models.weights import find

VISUAL_LOSS_NORMALIZER = 1 / 0.15
"""What LXMERT multiplies the losses of regions by; transformers has 6.67."""


class LxmertPretraining(TransformersModel):
    """LXMERT's five objectives.

    The losses ``mlm``, ``match``, ``obj``, ``attr``, ``feat`` and ``qa`` are added up as they are.
    Classes, attributes and answers are learned where the goal has any; fields of
    ``model.architecture`` (``task_qa``, ``visual_feat_loss``) switch others off. For the objective
    ``matching`` the second alone is left, and the score is its logit of text and image belonging
    together above that of their not doing so.

    What differs from transformers' own loss: the normalizer is LXMERT's 1 / 0.15, not 6.67;
    padding regions do not count (the original knows none); a batch without a masked token, or
    without an answer, adds 0 in the place of NaN; and the scores of the vocabulary are computed of
    the masked tokens alone.

    Source:
        LXMERT (arXiv:1908.07490); airsplay/lxmert src/pretrain/lxmert_pretrain.py,
        src/lxrt/modeling.py.
    """

    def __init__(self, options: ModelSection, goal: Goal) -> None:
        """Build it; see `VisionLanguageModel`.

        Raises:
            ValueError: The weights do not fit.
        """
        super().__init__()
        self.goal = goal
        self.network, new = load_network(
            LxmertForPreTraining, options, goal, _fields(options, goal), _ends(options, goal)
        )
        encoder = self.network.lxmert.encoder
        if not self.network.config.task_obj_predict:
            last = encoder.x_layers[-1]
            rest([last.visn_self_att, last.visn_inter, last.visn_output])
        if not self.network.config.task_mask_lm:
            rest([self.network.cls.predictions.transform])
            self.network.cls.predictions.bias.requires_grad_(False)
        filled = load_answer_head(self.network, options, goal)
        self._begin(options, goal, new - filled)

    def loss_in_words(self) -> str:
        """Name the losses that are added up."""
        config = self.network.config
        heads = ("obj", "attr", "feat")
        regions = [name for name in heads if getattr(config, f"visual_{name}_loss")]
        names = [
            *(["mlm"] if config.task_mask_lm else []),
            *(["match"] if config.task_matched else []),
            *(regions if config.task_obj_predict else []),
            *(["qa"] if config.task_qa else []),
        ]
        return " + ".join(names)

    @classmethod
    def loader_defaults(cls, options: ModelSection, goal: Goal) -> Mapping[str, Any]:
        """Give boxes, and masks as LXMERT has them; in matching only texts of other images."""
        hidden = MATCHING if goal.objective == "matching" else PretrainingSection()
        return {"boxes": "xyxy", "template": "{text}", "pretraining": hidden}

    def forward(self, batch: ModelInputs, *, attention: bool = False) -> ModelOutputs:
        """Compute losses, and in matching scores; see `VisionLanguageModel`."""
        batch = self._standardized(batch)
        found = self.network.lxmert(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            token_type_ids=batch.token_type_ids,
            visual_feats=batch.visual_feats.to(self.network.dtype),
            visual_pos=batch.visual_pos,
            visual_attention_mask=batch.visual_attention_mask,
        )
        matched = self.network.cls.seq_relationship(found.pooled_output)
        losses = self._losses(batch, found, matched)
        scores = matched_score(matched) if self.goal.objective == "matching" else None
        return ModelOutputs(losses, scores)

    def _losses(self, batch: ModelInputs, found: Any, matched: Tensor) -> dict[str, Loss]:
        network, config, targets = self.network, self.network.config, batch.pretraining
        losses: dict[str, Loss] = {}
        if targets is None:
            return losses
        if config.task_mask_lm:
            losses["mlm"] = token_loss(
                network.cls.predictions, found.language_output, targets.mlm_labels
            )
        if config.task_matched and targets.is_matched is not None:
            losses["match"] = cross_entropy(matched, targets.is_matched)
        if config.task_obj_predict:
            losses |= region_losses(
                network.obj_predict_head.transform,
                network.obj_predict_head.decoder_dict,
                found.vision_output,
                batch.visual_attention_mask > 0,
                targets,
                config.visual_loss_normalizer,
            )
        if config.task_qa and targets.answer_labels is not None:
            answers = network.answer_head(found.pooled_output)
            losses["qa"] = cross_entropy(answers, targets.answer_labels)
        return losses


def _fields(options: ModelSection, goal: Goal) -> dict[str, Any]:
    """Say what the goal makes of the configuration: heads that there is nothing for are off."""
    fields: dict[str, Any] = {"visual_feat_dim": goal.feature_dim}
    if goal.objective == "matching":
        off = ("task_mask_lm", "task_obj_predict", "task_qa")
        return fields | dict.fromkeys(off, False)
    for number, size, switch in (
        (len(goal.labels), "num_qa_labels", "task_qa"),
        (goal.num_objects, "num_object_labels", "visual_obj_loss"),
        (goal.num_attributes, "num_attr_labels", "visual_attr_loss"),
    ):
        if number:
            fields[size] = number
            fields[switch] = options.architecture.get(switch, True)
        else:
            fields[switch] = False
    if goal.labels:
        fields |= names_of(goal.labels)
    normalizer = options.architecture.get("visual_loss_normalizer", VISUAL_LOSS_NORMALIZER)
    return fields | {"visual_loss_normalizer": normalizer}


def _ends(options: ModelSection, goal: Goal) -> tuple[str, ...]:
    """Name the heads that may begin anew: of other answers, or of another detector's classes."""
    ends = ["answer_head."]
    before = find(options.weights).config if options.weights else {}
    for name, size in (("obj", "num_object_labels"), ("attr", "num_attr_labels")):
        number = goal.num_objects if name == "obj" else goal.num_attributes
        if before.get(size) != number:
            ends.append(f"obj_predict_head.decoder_dict.{name}.")
    return tuple(ends)
