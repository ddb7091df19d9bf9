"""VisualBERT pretraining, and image-text matching with VisualBERT's matching head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from transformers import VisualBertForPreTraining

from vlray.config.loader import PretrainingSection
from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs
from vlray.models.build import load_network
from vlray.models.losses import cross_entropy
from vlray.models.network import freeze_unused
from vlray.models.pretraining import MATCHING, matched_score, token_loss
from vlray.models.protocol import Goal, Loss, ModelOutputs
from vlray.models.transformers_model import TransformersModel
from vlray.models.visualbert import BOX_NUMBERS, box_feats_of

MAX_TOKENS = 128
TASK_AGNOSTIC = PretrainingSection(sentences="two", region_rate=0)
"""Loader options for pretraining on captions: tokens are masked, regions are not."""


class VisualBertPretraining(TransformersModel):
    """VisualBERT with its two pretraining objectives, ``mlm`` and ``match``.

    Task-agnostic pretraining on captions (default): a second caption follows the first, and
    ``match`` predicts whether it describes the same image or comes from another one. Task-specific
    pretraining on the texts of a task: set ``loader.pretraining.sentences=own``; ``mlm`` is then
    the only loss. For the objective ``matching``, there is one caption, and ``match`` is the only
    loss. The score is the logit for a matching pair minus the logit for a mismatched pair.

    Class 1 of ``match`` means that the text belongs to the image, as in the original code and the
    published checkpoints. The documentation of transformers states the opposite.

    Source:
        VisualBERT (arXiv:1908.03557); uclanlp/visualbert visualbert/dataloaders/coco_dataset.py,
        bert_data_utils.py, visualbert/configs.
    """

    uses_all_parameters: ClassVar[bool] = False  # a head without targets in a batch has no loss

    def __init__(self, options: ModelSection, goal: Goal) -> None:
        """Build the model; see `VisionLanguageModel`.

        Raises:
            ValueError: The weights do not fit.
        """
        super().__init__()
        self.options, self.goal = options, goal
        width = goal.feature_dim + (BOX_NUMBERS if options.box_feats else 0)
        fields = {"visual_embedding_dim": width}
        self.network, new = load_network(VisualBertForPreTraining, options, goal, fields, ())
        self._set_up(options, goal, new)
        # Without masked tokens, the token head would get no gradient. The decoder is not listed: it
        # shares its weight with the token embeddings, which are still trained.
        if goal.objective == "matching":
            freeze_unused([self.network.cls.predictions.transform])
            self.network.cls.predictions.bias.requires_grad_(False)

    def loss_in_words(self) -> str:
        """Return the names of the summed losses."""
        return "match" if self.goal.objective == "matching" else "mlm (+ match with two sentences)"

    @classmethod
    def loader_defaults(cls, options: ModelSection, goal: Goal) -> Mapping[str, object]:
        """Return VisualBERT's loader options: two captions per image, or one for matching.

        Boxes are loaded only with ``box_feats``.
        """
        return {
            "max_tokens": MAX_TOKENS,
            "boxes": "xyxy_area" if options.box_feats else "none",
            "template": "{text}",
            "pretraining": MATCHING if goal.objective == "matching" else TASK_AGNOSTIC,
        }

    def forward(self, batch: ModelInputs, *, attention: bool = False) -> ModelOutputs:
        """Compute the losses, and for matching also the scores; see `VisionLanguageModel`."""
        batch = self._standardize_regions(batch)
        feats = batch.visual_feats.to(self.network.dtype)
        if self.options.box_feats:
            feats = torch.cat([feats, box_feats_of(batch)], dim=-1)
        outputs = self.network.visual_bert(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            token_type_ids=batch.token_type_ids,
            visual_embeds=feats,
            visual_attention_mask=batch.visual_attention_mask,
            visual_token_type_ids=torch.zeros_like(batch.visual_attention_mask),
        )
        heads, targets = self.network.cls, batch.pretraining
        match_logits = heads.seq_relationship(outputs.pooler_output)
        losses: dict[str, Loss] = {}
        if targets is not None and self.goal.objective == "pretraining":
            # The sequence consists of the tokens, then the regions; only tokens are masked.
            text = outputs.last_hidden_state[:, : batch.input_ids.shape[1]]
            rows = batch.pretraining_rows().tokens
            losses["mlm"] = token_loss(heads.predictions, text, targets.mlm_labels, rows)
        if targets is not None and targets.is_matched is not None:
            losses["match"] = cross_entropy(match_logits, targets.is_matched)
        scores = matched_score(match_logits) if self.goal.objective == "matching" else None
        return ModelOutputs(losses, scores)
