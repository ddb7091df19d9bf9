"""Networks that transformers does not provide.

Shapes: B: examples; T: tokens; R: regions per image, including padding; P: phrases per example,
including padding; H: hidden size.
"""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import (
    LxmertConfig,
    LxmertModel,
    LxmertPreTrainedModel,
    PretrainedConfig,
    VisualBertConfig,
    VisualBertModel,
    VisualBertPreTrainedModel,
)
from transformers.models.lxmert.modeling_lxmert import GeLU
from transformers.models.visual_bert.modeling_visual_bert import VisualBertRegionToPhraseAttention


def embedding_head(config: PretrainedConfig, num_labels: int) -> nn.Sequential:
    """Build an answer head whose last layer has one vector of the hidden size for each answer."""
    width = config.hidden_size
    return nn.Sequential(
        nn.Linear(width, width),
        nn.GELU(),
        nn.LayerNorm(width, eps=1e-12),  # as in BERT
        nn.Dropout(config.hidden_dropout_prob),
        nn.Linear(width, num_labels),
    )


class LxmertForAnswers(LxmertPreTrainedModel):  # type: ignore[misc] # transformers is untyped here
    """LXMERT with an answer head that has one vector per answer."""

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        self.lxmert = LxmertModel(config)
        self.answer_head = embedding_head(config, config.num_qa_labels)
        self.post_init()


class VisualBertForAnswers(VisualBertPreTrainedModel):  # type: ignore[misc] # transformers is untyped here
    """VisualBERT with an answer head that has one vector per answer."""

    def __init__(self, config: VisualBertConfig) -> None:
        super().__init__(config)
        self.visual_bert = VisualBertModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.cls = embedding_head(config, config.num_labels)
        self.post_init()


class LxmertForPairs(LxmertPreTrainedModel):  # type: ignore[misc] # transformers is untyped here
    """LXMERT for a text with two images (NLVR2).

    The head reads the concatenated pooled vectors of both images.

    Source:
        LXMERT (arXiv:1908.07490); airsplay/lxmert src/tasks/nlvr2_model.py.
    """

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        self.lxmert = LxmertModel(config)
        width = config.hidden_size * 2
        self.pair_head = nn.Sequential(
            nn.Linear(width, width),
            GeLU(),
            nn.LayerNorm(width, eps=1e-12),
            nn.Linear(width, config.num_qa_labels),
        )
        self.post_init()


class LxmertForPhrases(LxmertPreTrainedModel):  # type: ignore[misc] # transformers is untyped here
    """LXMERT for phrase grounding, with VisualBERT's attention head.

    The LXMERT paper has no grounding task. The head reads the last hidden states of both
    modalities.
    """

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        self.lxmert = LxmertModel(config)
        self.attention = VisualBertRegionToPhraseAttention(config)
        self.post_init()

    def forward(
        self, *, region_to_phrase_position: Int64[Tensor, "B P"], **inputs: Tensor
    ) -> Float[Tensor, "B P R"]:
        """Compute the score of each region for each phrase.

        Args:
            region_to_phrase_position: Index of the token that represents each phrase.
            inputs: Keyword arguments for ``LxmertModel``.
        """
        outputs = self.lxmert(**inputs)
        token_indices = region_to_phrase_position[..., None].expand(-1, -1, self.config.hidden_size)
        # Select the hidden state of each phrase's token: (B, T, H) -> (B, P, H).
        phrases = outputs.language_output.gather(1, token_indices)
        scores: Tensor = self.attention(
            phrases, outputs.vision_output, inputs["visual_attention_mask"]
        )
        return scores
