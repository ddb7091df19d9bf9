"""VisualBERT's objectives beside transformers' loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import VisualBertForPreTraining

from tests.models.pretraining_batches import DIM, SMALL, padded, pretraining_batch
from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs
from vlray.models.protocol import Goal
from vlray.models.visualbert_pretraining import VisualBertPretraining

GOAL = Goal("pretraining", DIM)


def build(
    goal: Goal = GOAL, weights: str = "", seed: int = 0, **options: Any
) -> VisualBertPretraining:
    torch.manual_seed(seed)
    architecture = SMALL | {"num_hidden_layers": 1}
    section = ModelSection(name="visualbert", weights=weights, architecture=architecture, **options)
    return VisualBertPretraining(section, goal).eval()


def of_transformers(model: VisualBertPretraining, batch: ModelInputs) -> Any:
    targets = batch.pretraining
    assert targets is not None
    of_regions = torch.full_like(batch.visual_attention_mask, -100)
    return model.network(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        token_type_ids=batch.token_type_ids,
        visual_embeds=batch.visual_feats.float(),
        visual_attention_mask=batch.visual_attention_mask,
        visual_token_type_ids=torch.zeros_like(batch.visual_attention_mask),
        labels=torch.cat([targets.mlm_labels, of_regions], dim=1),
        sentence_image_labels=targets.is_matched,
    )


def means(model: VisualBertPretraining, batch: ModelInputs) -> dict[str, float]:
    with torch.no_grad():
        return {name: float(loss.mean) for name, loss in model(batch).losses.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_both_losses_together_are_that_of_transformers(seed: int) -> None:
    model, batch = build(seed=seed), pretraining_batch(seed)
    found = means(model, batch)
    assert list(found) == ["mlm", "match"]
    assert sum(found.values()) == pytest.approx(of_transformers(model, batch).loss.item(), abs=1e-5)


def test_padding_changes_no_loss() -> None:
    model, batch = build(), pretraining_batch()
    assert means(model, padded(batch)) == pytest.approx(means(model, batch), abs=1e-5)


def test_own_texts_alone_are_task_specific_pretraining() -> None:
    batch = pretraining_batch()
    assert batch.pretraining is not None
    own = replace(batch, pretraining=replace(batch.pretraining, is_matched=None))
    assert list(means(build(), own)) == ["mlm"]


def test_boxes_are_part_of_a_region_where_that_is_asked_for() -> None:
    batch = pretraining_batch()
    assert batch.visual_pos is not None
    area = batch.visual_pos.new_ones(*batch.visual_pos.shape[:-1], 1)
    wide = replace(batch, visual_pos=torch.cat([batch.visual_pos, area], dim=-1))
    moved = replace(wide, visual_pos=wide.visual_pos + 1)
    model = build(box_feats=True)
    assert model.network.config.visual_embedding_dim == DIM + 5
    assert means(model, wide) != means(model, moved)


def test_a_saved_model_is_whole_in_transformers_and_goes_on(tmp_path: Path) -> None:
    model, batch = build(), pretraining_batch()
    model.save(tmp_path)
    found, loading = VisualBertForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values())
    model.network = found.eval()
    again = build(weights=str(tmp_path), seed=1)
    assert not again.new_parameters()
    assert means(model, batch) == means(again, batch) == means(build(), batch)


def test_matching_learns_matching_alone_and_scores_pairs() -> None:
    model, batch = build(Goal("matching", DIM)), pretraining_batch()
    found = model(batch)
    assert list(found.losses) == ["match"]
    logits = of_transformers(model, batch).seq_relationship_logits
    torch.testing.assert_close(found.scores, logits[:, 1] - logits[:, 0])
    found.losses["match"].mean.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    pairs = model(replace(batch, pretraining=None))
    assert not pairs.losses
    torch.testing.assert_close(pairs.scores, found.scores)


def test_batches_are_asked_for_as_visualbert_was_trained() -> None:
    asked = VisualBertPretraining.loader_defaults(ModelSection(), GOAL)
    assert asked["boxes"] == "none"
    assert (asked["pretraining"].sentences, asked["pretraining"].region_rate) == ("two", 0)
    asked = VisualBertPretraining.loader_defaults(ModelSection(), Goal("matching", DIM))
    assert (asked["pretraining"].sentences, asked["pretraining"].token_rate) == ("one", 0)
