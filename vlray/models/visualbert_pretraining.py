"""VisualBERT's pre-training, and matching of texts and images from it.

Shapes: B examples, T tokens, R regions, D feature length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import VisualBertForPreTraining

from vlray.config.loader import PretrainingSection
from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs
from vlray.models.build import load_network
from vlray.models.losses import cross_entropy
from vlray.models.network import rest
from vlray.models.pretraining import MATCHING, matched_score, token_loss
from vlray.models.protocol import Goal, Loss, ModelOutputs
from vlray.models.transformers_model import TransformersModel
from vlray.models.visualbert import BOX_NUMBERS, box_feats_of

MAX_TOKENS = 128
TASK_AGNOSTIC = PretrainingSection(sentences="two", region_rate=0)


class VisualBertPretraining(TransformersModel):
    """VisualBERT's two objectives: their losses are ``mlm`` and ``match``.

    Task-agnostic pre-training, on captions: a second caption follows, of the same image or of
    another one, which ``match`` tells apart. Task-specific pre-training, on the texts of a task:
    ``loader.pretraining.sentences own``, and there is ``mlm`` alone. For the objective ``matching``
    there is one caption and ``match`` alone; the score is its logit of text and image belonging
    together above that of their not doing so.

    The second class of ``match`` is that the text belongs to the image, as in the original and so
    in what it published; transformers' documentation has it the other way round.

    Source:
        VisualBERT (arXiv:1908.03557); uclanlp/visualbert visualbert/dataloaders/coco_dataset.py,
        bert_data_utils.py, visualbert/configs.
    """

    def __init__(self, options: ModelSection, goal: Goal) -> None:
        """Build it; see `VisionLanguageModel`.

        Raises:
            ValueError: The weights do not fit.
        """
        super().__init__()
        self.options, self.goal = options, goal
        width = goal.feature_dim + (BOX_NUMBERS if options.box_feats else 0)
        fields = {"visual_embedding_dim": width}
        self.network, new = load_network(VisualBertForPreTraining, options, goal, fields, ())
        self._begin(options, goal, new)
        if goal.objective == "matching":
            rest([self.network.cls.predictions.transform])
            self.network.cls.predictions.bias.requires_grad_(False)

    def loss_in_words(self) -> str:
        """Name the losses that are added up."""
        return "match" if self.goal.objective == "matching" else "mlm, + match of two sentences"

    @classmethod
    def loader_defaults(cls, options: ModelSection, goal: Goal) -> Mapping[str, Any]:
        """Give no boxes, or their area too, and two captions; in matching one."""
        return {
            "max_tokens": MAX_TOKENS,
            "boxes": "xyxy_area" if options.box_feats else "none",
            "template": "{text}",
            "pretraining": MATCHING if goal.objective == "matching" else TASK_AGNOSTIC,
        }

    def forward(self, batch: ModelInputs, *, attention: bool = False) -> ModelOutputs:
        """Compute losses, and in matching scores; see `VisionLanguageModel`."""
        batch = self._standardized(batch)
        feats = batch.visual_feats.to(self.network.dtype)
        if self.options.box_feats:
            feats = torch.cat([feats, box_feats_of(batch)], dim=-1)
        found = self.network.visual_bert(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            token_type_ids=batch.token_type_ids,
            visual_embeds=feats,
            visual_attention_mask=batch.visual_attention_mask,
            visual_token_type_ids=torch.zeros_like(batch.visual_attention_mask),
        )
        heads, targets = self.network.cls, batch.pretraining
        matched = heads.seq_relationship(found.pooler_output)
        losses: dict[str, Loss] = {}
        if targets is not None and self.goal.objective == "pretraining":
            text = found.last_hidden_state[:, : batch.input_ids.shape[1]]
            losses["mlm"] = token_loss(heads.predictions, text, targets.mlm_labels)
        if targets is not None and targets.is_matched is not None:
            losses["match"] = cross_entropy(matched, targets.is_matched)
        scores = matched_score(matched) if self.goal.objective == "matching" else None
        return ModelOutputs(losses, scores)
