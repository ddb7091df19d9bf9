"""LXMERT's five objectives beside transformers' and the original's formulas."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import LxmertForPreTraining

from tests.models.pretraining_batches import (
    ANSWERS,
    ATTRIBUTES,
    DIM,
    OBJECTS,
    SMALL,
    padded,
    pretraining_batch,
)
from vlray.config.model import ModelSection
from vlray.loader.inputs import ModelInputs
from vlray.models.lxmert_pretraining import LxmertPretraining
from vlray.models.precision import autocast
from vlray.models.protocol import Goal

GOAL = Goal("pretraining", DIM, labels=ANSWERS, num_objects=OBJECTS, num_attributes=ATTRIBUTES)
LAYERS = SMALL | {"l_layers": 1, "x_layers": 1, "r_layers": 1}


def build(goal: Goal = GOAL, weights: str = "", seed: int = 0, **fields: Any) -> LxmertPretraining:
    torch.manual_seed(seed)
    options = ModelSection(weights=weights, architecture=LAYERS | fields)
    return LxmertPretraining(options, goal).eval()


def of_transformers(model: LxmertPretraining, batch: ModelInputs) -> Any:
    targets = batch.pretraining
    assert targets is not None
    return model.network(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        token_type_ids=batch.token_type_ids,
        visual_feats=batch.visual_feats.float(),
        visual_pos=batch.visual_pos,
        visual_attention_mask=batch.visual_attention_mask,
        labels=targets.mlm_labels,
        matched_label=targets.is_matched,
        ans=targets.answer_labels,
        obj_labels={
            "obj": (targets.obj_labels, targets.obj_weights),
            "attr": (targets.attr_labels, targets.attr_weights),
            "feat": (targets.feat_targets.float(), targets.feat_mask),
        },
    )


def means(model: LxmertPretraining, batch: ModelInputs) -> dict[str, float]:
    with torch.no_grad():
        return {name: float(loss.mean) for name, loss in model(batch).losses.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_all_losses_together_are_that_of_transformers(seed: int) -> None:
    model, batch = build(seed=seed), pretraining_batch(seed)
    found = means(model, batch)
    assert list(found) == ["mlm", "match", "obj", "attr", "feat", "qa"]
    assert sum(found.values()) == pytest.approx(of_transformers(model, batch).loss.item(), abs=1e-5)


def test_each_loss_of_regions_is_that_of_the_original_formula() -> None:
    # airsplay/lxmert: the loss of each region times its confidence or mask, the mean of all, / 0.15
    model, batch = build(), pretraining_batch()
    targets = batch.pretraining
    assert targets is not None
    hidden = model.network.lxmert(
        batch.input_ids,
        batch.visual_feats.float(),
        batch.visual_pos,
        attention_mask=batch.attention_mask,
        visual_attention_mask=batch.visual_attention_mask,
    )
    scores = model.network.obj_predict_head(hidden.vision_output)
    found = means(model, batch)
    for name in ("obj", "attr"):
        labels = getattr(targets, f"{name}_labels").flatten()
        each = functional.cross_entropy(scores[name].flatten(0, 1), labels, reduction="none")
        wanted = (each * getattr(targets, f"{name}_weights").flatten()).mean() / 0.15
        assert found[name] == pytest.approx(wanted.item(), abs=1e-5)
    away = functional.smooth_l1_loss(scores["feat"], targets.feat_targets.float(), reduction="none")
    wanted = (away.mean(-1) * targets.feat_mask).mean() / 0.15
    assert found["feat"] == pytest.approx(wanted.item(), abs=1e-5)


def test_padding_changes_no_loss() -> None:
    model, batch = build(), pretraining_batch()
    assert means(model, padded(batch)) == pytest.approx(means(model, batch), abs=1e-5)


def test_counts_say_what_each_mean_is_over() -> None:
    batch = pretraining_batch()
    targets = batch.pretraining
    assert targets is not None
    counts = {name: loss.count.item() for name, loss in build()(padded(batch)).losses.items()}
    assert counts == {
        "mlm": (targets.mlm_labels >= 0).sum(),
        "match": 4,
        "obj": 20,
        "attr": 20,
        "feat": 20,
        "qa": 2,
    }


def test_a_batch_without_masks_and_answers_has_losses_of_zero_that_can_be_learned_from() -> None:
    model, batch = build(), pretraining_batch()
    targets = batch.pretraining
    assert targets is not None
    nothing = replace(
        targets,
        mlm_labels=torch.full_like(targets.mlm_labels, -100),
        feat_mask=torch.zeros_like(targets.feat_mask),
        answer_labels=torch.full_like(targets.is_matched, -100),
    )
    losses = model(replace(batch, pretraining=nothing)).losses
    assert [losses[name].mean.item() for name in ("mlm", "feat", "qa")] == [0, 0, 0]
    sum(loss.mean for loss in losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_texts_that_all_stay_with_their_images_teach_no_matching() -> None:
    batch = pretraining_batch()
    assert batch.pretraining is not None
    own = replace(batch, pretraining=replace(batch.pretraining, is_matched=None))
    assert "match" not in build()(own).losses


def test_heads_without_anything_to_learn_are_off() -> None:
    assert list(means(build(Goal("pretraining", DIM)), pretraining_batch())) == [
        "mlm",
        "match",
        "feat",
    ]
    off = {"task_qa": False, "visual_attr_loss": False}
    assert list(means(build(**off), pretraining_batch())) == ["mlm", "match", "obj", "feat"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_losses_are_float32_and_finite_in_every_precision(precision: Any) -> None:
    with autocast(precision, torch.device("cpu")):
        losses = build()(pretraining_batch()).losses
    assert {loss.mean.dtype for loss in losses.values()} == {torch.float32}
    assert all(math.isfinite(loss.mean.item()) for loss in losses.values())


def test_a_saved_model_is_whole_in_transformers(tmp_path: Path) -> None:
    model, batch = build(), pretraining_batch()
    model.save(tmp_path)
    found, loading = LxmertForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values())
    model.network = found.eval()
    assert means(model, batch) == means(build(), batch)


def test_going_on_from_a_saved_model_keeps_all_its_heads(tmp_path: Path) -> None:
    build().save(tmp_path)
    again = build(weights=str(tmp_path), seed=1)
    assert not again.new_parameters()
    assert means(again, pretraining_batch()) == means(build(), pretraining_batch())


def test_matching_learns_matching_alone_and_scores_pairs(tmp_path: Path) -> None:
    build().save(tmp_path)
    goal = Goal("matching", DIM)
    model, batch = build(goal, str(tmp_path)), pretraining_batch()
    found = model(batch)
    assert list(found.losses) == ["match"]
    logits = of_transformers(model, batch).cross_relationship_score
    torch.testing.assert_close(found.scores, logits[:, 1] - logits[:, 0])
    found.losses["match"].mean.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    pairs = model(replace(batch, pretraining=None))
    assert not pairs.losses
    torch.testing.assert_close(pairs.scores, found.scores)


def test_batches_are_asked_for_as_lxmert_was_trained() -> None:
    asked = LxmertPretraining.loader_defaults(ModelSection(), GOAL)
    assert asked["boxes"] == "xyxy"
    assert (asked["pretraining"].sentences, asked["pretraining"].region_rate) == ("one", 0.15)
    asked = LxmertPretraining.loader_defaults(ModelSection(), Goal("matching", DIM))
    assert (asked["pretraining"].sentences, asked["pretraining"].token_rate) == ("one", 0)


def test_standardized_regions_are_found_again_as_the_model_reads_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = ModelSection(architecture=LAYERS, standardize=True)
    model, batch = LxmertPretraining(options, GOAL).eval(), pretraining_batch()
    targets = batch.pretraining
    assert targets is not None
    assert model.standardize is not None
    mean, deviation = torch.arange(DIM) / 2.0, torch.arange(DIM) + 1.0
    model.standardize.measure(mean.numpy(), deviation.numpy())
    by_hand = replace(
        batch,
        visual_feats=(batch.visual_feats - mean) / deviation,
        pretraining=replace(targets, feat_targets=(targets.feat_targets - mean) / deviation),
    )
    assert means(model, batch) == pytest.approx(means(build(), by_hand), abs=1e-5)
    model.save(tmp_path)
    again = LxmertPretraining(options.model_copy(update={"weights": str(tmp_path)}), GOAL).eval()
    assert means(again, batch) == means(model, batch)
