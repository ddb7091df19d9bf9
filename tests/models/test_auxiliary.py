"""A field of the examples that a model learns from the regions, beside the answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.models.batches import GOALS, batch_for, section
from vlray.config.loader import LoaderSection
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.load import load_checkpoint, load_model

GOAL = replace(GOALS["exact answers"], auxiliary=("chest", "head"))


@pytest.mark.parametrize("name", ["lxmert", "visualbert"])
def test_the_loss_follows_the_field_and_the_head_is_saved(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = load_model(section(name, auxiliary="organ", auxiliary_weight=0.5), GOAL).eval()
    assert {"auxiliary.classifier.weight", "auxiliary.classifier.bias"} <= model.new_parameters()
    batch = batch_for(GOAL, numbers=4 if name == "lxmert" else 0)
    losses = {}
    for organ in GOAL.auxiliary:
        about = ({"organ": organ}, {}, {"organ": "an unknown one"})
        outputs = model(replace(batch, about=about))
        losses[organ] = outputs.losses["auxiliary"]
        assert losses[organ].count == 1
    # Two classes of one example: their probabilities add up to 1.
    total = sum(torch.exp(-loss.mean / 0.5) for loss in losses.values())
    torch.testing.assert_close(total, torch.tensor(1.0))
    losses["head"].mean.backward()
    projection = "visn_fc.visn_fc.weight" if name == "lxmert" else "visual_projection.weight"
    used = [n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()]
    assert any(n.endswith(projection) for n in used)

    model.save(tmp_path)
    CheckpointInfo("0", model.options, GOAL, LoaderSection(), "", {}, {}).write(tmp_path)
    again, info = load_checkpoint(tmp_path)
    assert info.goal == GOAL
    assert torch.equal(again.auxiliary.classifier.weight, model.auxiliary.classifier.weight)


def test_it_is_for_labels_of_one_image() -> None:
    with pytest.raises(ValueError, match="objective=labels with 2 images"):
        load_model(section("lxmert", auxiliary="organ"), replace(GOALS["pairs"], auxiliary=("a",)))
