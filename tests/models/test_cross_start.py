"""Cross-modal layers that begin with the states of the text layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import BertConfig, BertModel

from tests.models.batches import GOALS, SIZES, batch_for
from vlray.config.model import ModelSection
from vlray.models.build import save_network
from vlray.models.load import load_model

GOAL = GOALS["exact answers"]


def changed_by_cross_layers(folder: Path, start: Literal["random", "text"]) -> float:
    """Return how much the cross-modal layers change the text states, relative to their size."""
    torch.manual_seed(0)
    options = ModelSection(
        name="lxmert",
        weights=str(folder),
        cross_start=start,
        architecture={"r_layers": 0, "x_layers": 2},
    )
    model: Any = load_model(options, GOAL).eval()
    text: list[torch.Tensor] = []
    layer = model.network.lxmert.encoder.layer[-1]
    layer.register_forward_hook(lambda module, args, output: text.append(output[0]))
    batch = batch_for(GOAL)
    inputs = model._inputs(batch)
    states = model.network.lxmert(**inputs, return_dict=True).language_output
    is_real = batch.attention_mask.bool()
    return float((states - text[0])[is_real].norm() / text[0][is_real].norm())


@torch.no_grad()
def test_the_text_states_pass_nearly_unchanged(tmp_path: Path) -> None:
    torch.manual_seed(1)
    bert = BertModel(BertConfig(**SIZES | {"num_hidden_layers": 2}))
    # The norms of a trained BERT are far from 1 and 0.
    torch.nn.init.normal_(bert.encoder.layer[-1].output.LayerNorm.weight, 0.6, 0.02)
    torch.nn.init.normal_(bert.encoder.layer[-1].output.LayerNorm.bias, 0.1, 0.02)
    save_network(bert, tmp_path)
    assert changed_by_cross_layers(tmp_path, "text") < 0.1
    assert changed_by_cross_layers(tmp_path, "random") > 0.5
