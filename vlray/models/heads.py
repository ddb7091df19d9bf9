"""Networks that transformers does not have: LXMERT for pairs of images and for phrases."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import LxmertConfig, LxmertModel, LxmertPreTrainedModel
from transformers.models.lxmert.modeling_lxmert import GeLU


class LxmertForPairs(LxmertPreTrainedModel):  # type: ignore[misc] # transformers is untyped here
    """LXMERT that classifies a text with two images (NLVR2).

    Source:
        LXMERT (arXiv:1908.07490); airsplay/lxmert src/tasks/nlvr2_model.py.
    """

    def __init__(self, config: LxmertConfig) -> None:
        super().__init__(config)
        self.lxmert = LxmertModel(config)
        width = config.hidden_size * 2
        self.answer_head = nn.ModuleDict(
            {
                "logit_fc": nn.Sequential(
                    nn.Linear(width, width),
                    GeLU(),
                    nn.LayerNorm(width, eps=1e-12),
                    nn.Linear(width, config.num_qa_labels),
                )
            }
        )
        self.post_init()

    def forward(self, **inputs: Any) -> tuple[Float[Tensor, "B L"], Any]:
        """Compute the scores of B pairs.

        Args:
            inputs: Of LxmertModel, of 2 B images: the two of an example in turn.

        Returns:
            The scores, and the attentions of the x layers where they are asked for.
        """
        outputs = self.lxmert(**inputs)
        pairs = outputs.pooled_output.reshape(-1, 2 * self.config.hidden_size)
        return self.answer_head["logit_fc"](pairs), outputs.cross_encoder_attentions
