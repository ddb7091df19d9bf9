"""LXMERT pretraining, and image-text matching with LXMERT's matching head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from transformers import LxmertForPreTraining

from vlray.config.loader import PretrainingSection
from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs
from vlray.models.answers import load_answer_head
from vlray.models.build import label_fields, load_network
from vlray.models.losses import cross_entropy
from vlray.models.network import freeze_unused
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
"""LXMERT's factor for the region losses; transformers uses 6.67."""


class LxmertPretraining(TransformersModel):
    """LXMERT with its five pretraining objectives.

    The total loss is the unweighted sum of ``mlm``, ``match``, ``obj``, ``attr``, ``feat`` and
    ``qa``. Classes, attributes and answers are learned only if the goal has them.
    ``model.architecture`` can switch off objectives (``task_qa``, ``visual_feat_loss``). For the
    objective ``matching``, ``match`` is the only loss, and the score is the logit for a matching
    pair minus the logit for a mismatched pair.

    The loss differs from the one in transformers in four ways. The normalizer is LXMERT's 1 / 0.15,
    not 6.67. Padding regions do not count (the original has no padding). A batch without a masked
    token or without an answer adds 0 instead of NaN. Vocabulary scores are computed only for masked
    tokens.

    Source:
        LXMERT (arXiv:1908.07490); airsplay/lxmert src/pretrain/lxmert_pretrain.py,
        src/lxrt/modeling.py.
    """

    uses_all_parameters: ClassVar[bool] = False  # a head without targets in a batch has no loss

    def __init__(self, options: ModelSection, goal: Goal) -> None:
        """Build the model; see `VisionLanguageModel`.

        Raises:
            ValueError: The weights do not fit.
        """
        super().__init__()
        self.goal = goal
        self.network, new = load_network(
            LxmertForPreTraining,
            options,
            goal,
            _fields(options, goal),
            _new_head_prefixes(options, goal),
        )
        encoder = self.network.lxmert.encoder
        # Layers that only a disabled objective uses would get no gradient.
        if not self.network.config.task_obj_predict:
            last = encoder.x_layers[-1]
            freeze_unused([last.visn_self_att, last.visn_inter, last.visn_output])
        if not self.network.config.task_mask_lm:
            # The decoder shares its weight with the token embeddings, which are still trained.
            freeze_unused([self.network.cls.predictions.transform])
            self.network.cls.predictions.bias.requires_grad_(False)
        # Parameters copied from the trained head are not new.
        filled = load_answer_head(self.network, options, goal)
        self._set_up(options, goal, new - filled)

    def loss_in_words(self) -> str:
        """Return the names of the summed losses, joined by plus signs."""
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
    def loader_defaults(cls, options: ModelSection, goal: Goal) -> Mapping[str, object]:
        """Return LXMERT's loader options: normalized boxes, and masking as published.

        For matching, nothing is masked, and some texts are replaced with texts from other images.
        """
        masking = MATCHING if goal.objective == "matching" else PretrainingSection()
        return {"boxes": "xyxy", "template": "{text}", "pretraining": masking}

    def forward(self, batch: ModelInputs, *, attention: bool = False) -> ModelOutputs:
        """Compute the losses, and for matching also the scores; see `VisionLanguageModel`."""
        batch = self._standardize_regions(batch)
        outputs = self.network.lxmert(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            token_type_ids=batch.token_type_ids,
            visual_feats=batch.visual_feats.to(self.network.dtype),
            visual_pos=batch.visual_pos,
            visual_attention_mask=batch.visual_attention_mask,
        )
        match_logits = self.network.cls.seq_relationship(outputs.pooled_output)
        losses = self._losses(batch, outputs, match_logits)
        scores = matched_score(match_logits) if self.goal.objective == "matching" else None
        return ModelOutputs(losses, scores)

    def _losses(self, batch: ModelInputs, outputs: Any, match_logits: Tensor) -> dict[str, Loss]:
        network, config, targets = self.network, self.network.config, batch.pretraining
        losses: dict[str, Loss] = {}
        if targets is None:
            return losses
        rows = batch.pretraining_rows()
        if config.task_mask_lm:
            losses["mlm"] = token_loss(
                network.cls.predictions, outputs.language_output, targets.mlm_labels, rows.tokens
            )
        if config.task_matched and targets.is_matched is not None:
            losses["match"] = cross_entropy(match_logits, targets.is_matched)
        if config.task_obj_predict:
            # Disabled heads have no decoder, so `region_losses` returns no loss for them.
            losses |= region_losses(
                network.obj_predict_head.transform,
                network.obj_predict_head.decoder_dict,
                outputs.vision_output,
                rows,
                targets,
                config.visual_loss_normalizer,
            )
        if config.task_qa and targets.answer_labels is not None:
            answers = network.answer_head(outputs.pooled_output)
            losses["qa"] = cross_entropy(answers, targets.answer_labels)
        return losses


def _fields(options: ModelSection, goal: Goal) -> dict[str, object]:
    """Return the configuration fields that follow from the goal.

    Heads without targets are switched off.
    """
    fields: dict[str, object] = {"visual_feat_dim": goal.feature_dim}
    if goal.objective == "matching":
        disabled = ("task_mask_lm", "task_obj_predict", "task_qa")
        return fields | dict.fromkeys(disabled, False)
    for count, size, switch in (
        (len(goal.labels), "num_qa_labels", "task_qa"),
        (goal.num_objects, "num_object_labels", "visual_obj_loss"),
        (goal.num_attributes, "num_attr_labels", "visual_attr_loss"),
    ):
        if count:
            fields[size] = count
            # model.architecture can switch off an objective, but not switch on one without targets.
            fields[switch] = options.architecture.get(switch, True)
        else:
            fields[switch] = False
    if goal.labels:
        fields |= label_fields(goal.labels)
    normalizer = options.architecture.get("visual_loss_normalizer", VISUAL_LOSS_NORMALIZER)
    return fields | {"visual_loss_normalizer": normalizer}


def _new_head_prefixes(options: ModelSection, goal: Goal) -> tuple[str, ...]:
    """Return the name prefixes of the heads that may be reinitialized.

    These are the answer head, and each region head with a different number of classes than in the
    weights.
    """
    prefixes = ["answer_head."]
    saved_config = find(options.weights).config if options.weights else {}
    for name, size in (("obj", "num_object_labels"), ("attr", "num_attr_labels")):
        count = goal.num_objects if name == "obj" else goal.num_attributes
        if saved_config.get(size) != count:
            prefixes.append(f"obj_predict_head.decoder_dict.{name}.")
    return tuple(prefixes)
