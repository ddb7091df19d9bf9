"""LXMERT for fine-tuning beside transformers' forward and the original's formulas."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tests.models.batches import GOALS, batch_for, section
from vlray.loader.inputs import ModelInputs
from vlray.models.lxmert import Lxmert


def build(task: str, **options: Any) -> Lxmert:
    torch.manual_seed(0)
    return Lxmert(section("lxmert", **options), GOALS[task]).eval()


def text_of(batch: ModelInputs) -> dict[str, torch.Tensor]:
    return {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
        "token_type_ids": batch.token_type_ids,
    }


def visual_of(batch: ModelInputs) -> dict[str, torch.Tensor]:
    assert batch.visual_pos is not None
    return {
        "visual_feats": batch.visual_feats.float(),
        "visual_pos": batch.visual_pos,
        "visual_attention_mask": batch.visual_attention_mask,
    }


@torch.no_grad()
def test_answers_are_scored_as_by_transformers() -> None:
    model, batch = build("answers"), batch_for(GOALS["answers"])
    wanted = model.network(**text_of(batch), **visual_of(batch)).question_answering_score
    torch.testing.assert_close(model(batch).scores, wanted, atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("task", ["answers", "exact answers"])
def test_answers_have_the_published_loss(task: str) -> None:
    batch = batch_for(GOALS[task])
    outputs = build(task)(batch)
    assert batch.targets is not None
    assert outputs.scores is not None
    wanted = nn.BCEWithLogitsLoss()(outputs.scores, batch.targets) * outputs.scores.shape[1]
    torch.testing.assert_close(outputs.losses["labels"].mean, wanted, atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_loss_of_transformers_is_to_be_had_by_name() -> None:
    model = build("exact answers", loss="cross-entropy")
    batch = replace(batch_for(GOALS["answers"]), label_ids=torch.tensor([1, 0, 3]))
    found = model.network(**text_of(batch), **visual_of(batch), labels=batch.label_ids)
    torch.testing.assert_close(model(batch).losses["labels"].mean, found.loss, atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_pair_is_scored_from_the_two_pooled_vectors() -> None:
    model, batch = build("pairs"), batch_for(GOALS["pairs"])
    pooled = []
    for image in (0, 1):
        visual = {name: value[:, image] for name, value in visual_of(batch).items()}
        pooled.append(model.network.lxmert(**text_of(batch), **visual).pooled_output)
    head = model.network.pair_head
    hidden = nn.functional.gelu(head[0](torch.cat(pooled, dim=1)))
    wanted = head[3](nn.functional.layer_norm(hidden, (32,), head[2].weight, head[2].bias, 1e-12))
    outputs = model(batch)
    torch.testing.assert_close(outputs.scores, wanted, atol=1e-6, rtol=0)
    loss = nn.CrossEntropyLoss()(wanted, batch.label_ids)
    torch.testing.assert_close(outputs.losses["labels"].mean, loss, atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_mean_is_of_the_real_tokens_of_the_text() -> None:
    model, batch = build("answers", pooling="mean"), batch_for(GOALS["answers"])
    states = model.network.lxmert(**text_of(batch), **visual_of(batch)).language_output
    wanted = model.network.answer_head(states[1, :5].mean(0))  # of the second text five are real
    torch.testing.assert_close(model(batch).scores[1], wanted, atol=1e-6, rtol=0)


@torch.no_grad()
def test_each_choice_is_scored_as_if_it_were_alone() -> None:
    model, batch = build("choices"), batch_for(GOALS["choices"])
    scores = model(batch).scores
    for choice in range(4):
        text = {name: value[:, choice] for name, value in text_of(batch).items()}
        alone = model.network(**text, **visual_of(batch)).question_answering_score[:, 0]
        torch.testing.assert_close(scores[:, choice], alone, atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_phrase_is_read_of_its_last_token_and_scored_against_the_regions() -> None:
    model, batch = build("phrases"), batch_for(GOALS["phrases"])
    found = model.network.lxmert(**text_of(batch), **visual_of(batch))
    head = model.network.attention
    query = head.query(found.language_output[0, 5])
    wanted = head.key(found.vision_output[0]) @ query / query.shape[0] ** 0.5
    torch.testing.assert_close(model(batch).scores[0, 1], wanted, atol=1e-6, rtol=0)


@torch.no_grad()
def test_attention_is_that_of_the_first_token_in_the_last_layer() -> None:
    model, batch = build("answers"), batch_for(GOALS["answers"])
    found = model.network(**text_of(batch), **visual_of(batch), output_attentions=True)
    wanted = found.cross_encoder_attentions[-1][:, :, 0].mean(1)
    torch.testing.assert_close(model(batch, attention=True).attention, wanted)


def test_boxes_of_other_numbers_are_refused() -> None:
    batch = batch_for(GOALS["answers"], numbers=5)
    with pytest.raises(ValueError, match="have 5 numbers each, but lxmert reads 4"):
        build("answers")(batch)


def test_box_feats_are_for_models_without_boxes() -> None:
    with pytest.raises(ValueError, match="lxmert reads the boxes themselves"):
        build("answers", box_feats=True)
