"""Start of LXMERT's new cross-modal layers: each nearly returns the text states that it gets."""

from __future__ import annotations

import torch
from torch import nn
from transformers import LxmertModel

SMALL = 0.002
"""Standard deviation of the weights of an output projection; BERT's is 0.02."""


@torch.no_grad()
def start_near_text(lxmert: LxmertModel) -> None:
    """Let the model begin with the states of its pretrained text layers.

    In each cross-modal layer, a sublayer computes ``norm(x + output(...))``. The output projections
    start small, and the norms on the text side with the mean and the deviation of the last text
    layer's states, so that they return ``x`` almost unchanged.
    """
    last = lxmert.encoder.layer[-1].output.LayerNorm
    # The states are a norm's output: its input has variance 1 and mean 0 in every channel.
    mean = last.bias.mean()
    deviation = (last.weight.square().mean() + last.bias.var(unbiased=False)).sqrt()
    for layer in lxmert.encoder.x_layers:
        text = (layer.visual_attention.output, layer.lang_self_att.output, layer.lang_output)
        for output in (*text, layer.visn_self_att.output, layer.visn_output):
            nn.init.normal_(output.dense.weight, std=SMALL)
        for output in text:
            output.LayerNorm.weight.fill_(deviation)
            output.LayerNorm.bias.fill_(mean)
