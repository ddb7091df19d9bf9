"""VisualBERT for fine-tuning beside transformers' forward and losses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tests.models.batches import DIM, GOALS, batch_for, section
from vlray.loader.inputs import ModelInputs
from vlray.loader.text import Tokenizer
from vlray.loader.word_pieces import MASK
from vlray.models.visualbert import VisualBert


def build(task: str, **options: Any) -> VisualBert:
    torch.manual_seed(0)
    return VisualBert(section("visualbert", **options), GOALS[task]).eval()


def inputs_of(batch: ModelInputs) -> dict[str, torch.Tensor]:
    return {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
        "token_type_ids": batch.token_type_ids,
        "visual_embeds": batch.visual_feats.float(),
        "visual_attention_mask": batch.visual_attention_mask,
        "visual_token_type_ids": torch.zeros_like(batch.visual_attention_mask),
    }


@torch.no_grad()
def test_answers_are_scored_as_by_transformers() -> None:
    model, batch = build("answers"), batch_for(GOALS["answers"])
    outputs = model(batch)
    found = model.network(**inputs_of(batch), labels=batch.targets)
    log_softmax = torch.log_softmax(outputs.scores, 1)
    torch.testing.assert_close(log_softmax, found.logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(outputs.losses["labels"].mean, found.loss, atol=1e-6, rtol=0)


@torch.no_grad()
def test_one_right_answer_has_cross_entropy() -> None:
    model, batch = build("exact answers"), batch_for(GOALS["answers"])
    logits = model.network(**inputs_of(batch)).logits
    wanted = nn.CrossEntropyLoss()(logits, batch.label_ids)
    torch.testing.assert_close(model(batch).losses["labels"].mean, wanted, atol=1e-6, rtol=0)


def test_the_token_that_answers_are_read_of_is_the_mask_behind_the_question() -> None:
    defaults = VisualBert.loader_defaults(section("visualbert"), GOALS["answers"])
    assert defaults["punctuation"] == "visualbert"
    template = defaults["template"]
    tokenizer = Tokenizer("", 12, template)
    tokens = tokenizer(["What is it?", "Which organ is enlarged on the left side of this x-ray?"])
    places = tokens.attention_mask.sum(1) - 2
    assert [int(ids[place]) for ids, place in zip(tokens.input_ids, places, strict=True)] == [
        tokenizer.id_of(MASK)
    ] * 2


@torch.no_grad()
def test_the_mean_is_of_the_real_tokens_of_the_text_which_has_no_mask() -> None:
    model, batch = build("answers", pooling="mean"), batch_for(GOALS["answers"])
    states = model.network.visual_bert(**inputs_of(batch)).last_hidden_state
    wanted = model.network.cls(states[1, :5].mean(0))  # of the second text five are real
    torch.testing.assert_close(model(batch).scores[1], wanted, atol=1e-6, rtol=0)
    defaults = model.loader_defaults(model.options, model.goal)
    assert (defaults["template"], defaults["punctuation"]) == ("{text}", "keep")


@torch.no_grad()
def test_classes_are_scored_from_the_pooled_vector() -> None:
    model, batch = build("classes"), batch_for(GOALS["classes"])
    found = model.network.visual_bert(**inputs_of(batch))
    wanted = model.network.cls(found.pooler_output)
    torch.testing.assert_close(model(batch).scores, wanted, atol=1e-6, rtol=0)
    defaults = VisualBert.loader_defaults(section("visualbert"), GOALS["classes"])
    assert (defaults["template"], defaults["punctuation"]) == ("{text}", "keep")


@torch.no_grad()
def test_the_regions_of_a_pair_are_one_row_of_two_kinds() -> None:
    model, batch = build("pairs"), batch_for(GOALS["pairs"])
    inputs = {name: value.clone() for name, value in inputs_of(batch).items()}
    inputs["visual_token_type_ids"][:, 1] = 1
    for name in ("visual_embeds", "visual_attention_mask", "visual_token_type_ids"):
        inputs[name] = inputs[name].flatten(1, 2)
    known = replace(batch, label_ids=torch.tensor([1, 0, 3]))
    found = model.network(**inputs, labels=known.label_ids)
    outputs = model(known)
    torch.testing.assert_close(outputs.scores, found.logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(outputs.losses["labels"].mean, found.loss, atol=1e-6, rtol=0)


@torch.no_grad()
def test_choices_are_scored_as_by_transformers() -> None:
    model, batch = build("choices"), batch_for(GOALS["choices"])
    inputs = inputs_of(batch)
    for name in ("visual_embeds", "visual_attention_mask", "visual_token_type_ids"):
        inputs[name] = torch.stack([inputs[name]] * 4, dim=1)
    found = model.network(**inputs, labels=batch.label_ids)
    outputs = model(batch)
    torch.testing.assert_close(outputs.scores, found.logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(outputs.losses["labels"].mean, found.loss, atol=1e-6, rtol=0)


@torch.no_grad()
def test_phrases_are_scored_as_by_transformers() -> None:
    model, batch = build("phrases"), batch_for(GOALS["phrases"])
    phrases = batch.phrases
    assert phrases is not None
    places = torch.where(phrases.mask == 1, phrases.positions, -1)
    found = model.network(
        **inputs_of(batch), region_to_phrase_position=places, labels=phrases.targets
    )
    outputs = model(batch)
    real = phrases.mask == 1
    torch.testing.assert_close(outputs.scores[real], found.logits[real], atol=1e-6, rtol=0)
    torch.testing.assert_close(outputs.losses["phrases"].mean, found.loss, atol=1e-6, rtol=0)


@torch.no_grad()
def test_attention_is_that_of_the_token_that_is_read() -> None:
    model, batch = build("answers"), batch_for(GOALS["answers"])
    found = model.network(**inputs_of(batch), output_attentions=True)
    first = found.attentions[-1][0].mean(0)[5, 7:]  # of seven tokens the last but one
    wanted = first / first.sum()
    torch.testing.assert_close(model(batch, attention=True).attention[0], wanted)


@torch.no_grad()
def test_box_feats_tell_the_model_of_places() -> None:
    model = build("answers", box_feats=True)
    defaults = model.loader_defaults(model.options, model.goal)
    assert defaults["boxes"] == "xyxy_area"
    batch = batch_for(GOALS["answers"], numbers=5)
    assert batch.visual_pos is not None
    assert model.network.config.visual_embedding_dim == DIM + 5
    moved = replace(batch, visual_pos=batch.visual_pos.flip(1))
    assert not torch.allclose(model(batch).scores, model(moved).scores)
    with pytest.raises(ValueError, match="needs 5 numbers per box, but the batch has 4"):
        model(batch_for(GOALS["answers"]))
