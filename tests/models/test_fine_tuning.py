"""What holds of LXMERT and of VisualBERT for every kind of task."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.models.batches import DIM, GOALS, LABELS, batch_for, of_one, section
from vlray.config.loader import LoaderSection
from vlray.config.training import Precision
from vlray.loader.inputs import ModelInputs
from vlray.models.checkpoint import CheckpointInfo
from vlray.models.load import load_checkpoint, load_model, model_class
from vlray.models.precision import autocast
from vlray.models.protocol import Goal

both = pytest.mark.parametrize("name", ["lxmert", "visualbert"])
pooled = pytest.mark.parametrize("pooling", ["model", "mean"])
every = pytest.mark.parametrize("task", list(GOALS))
not_phrases = pytest.mark.parametrize("task", [task for task in GOALS if task != "phrases"])


def build(name: str, task: str, pooling: str = "model") -> tuple[nn.Module, ModelInputs]:
    torch.manual_seed(0)
    model = load_model(section(name, pooling=pooling), GOALS[task])
    assert isinstance(model, nn.Module)
    return model.eval(), batch_for(GOALS[task], numbers=4 if name == "lxmert" else 0)


@both
@every
@pooled
def test_padding_changes_no_score(name: str, task: str, pooling: str) -> None:
    model, batch = build(name, task, pooling)
    with torch.no_grad():
        scores = model(batch).scores
        for row in range(len(batch)):
            alone = model(of_one(batch, row)).scores[0]
            together = scores[row]
            if task == "phrases":
                real = batch.phrases.mask[row] == 1
                together, alone = together[real][:, : alone.shape[1]], alone[real]
            torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-5)


@both
@every
@pooled
def test_every_parameter_that_is_trained_gets_a_gradient(
    name: str, task: str, pooling: str
) -> None:
    model, batch = build(name, task, pooling)
    outputs = model(batch)
    sum(loss.mean for loss in outputs.losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize(
    ("name", "task", "loss", "said"),
    [
        ("lxmert", "answers", "model", "bce, binary cross-entropy"),
        ("lxmert", "pairs", "model", "cross-entropy of the best label"),
        ("visualbert", "answers", "model", "kl, Kullback-Leibler"),
        ("visualbert", "exact answers", "model", "cross-entropy of the best label"),
        ("visualbert", "answers", "bce", "bce, binary cross-entropy"),
        ("lxmert", "choices", "bce", "cross-entropy of the right choice"),
        ("visualbert", "phrases", "model", "kl, Kullback-Leibler divergence over the regions"),
    ],
)
def test_a_model_says_which_loss_it_has(name: str, task: str, loss: str, said: str) -> None:
    model = load_model(section(name, loss=loss), GOALS[task])
    assert model.loss_in_words().startswith(said)


@both
@every
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_16_bits_give_finite_scores_and_losses_in_float32(
    name: str, task: str, precision: Precision
) -> None:
    model, batch = build(name, task)
    full = model(batch)
    with autocast(precision, torch.device("cpu")):
        outputs = model(batch)
    assert outputs.scores.dtype == torch.float32
    assert outputs.scores.isfinite().all()
    for key, loss in outputs.losses.items():
        assert loss.mean.dtype == torch.float32
        torch.testing.assert_close(loss.mean, full.losses[key].mean, rtol=0.05, atol=0.01)


@both
@not_phrases
@pooled
def test_attention_is_a_share_of_each_images_real_regions(
    name: str, task: str, pooling: str
) -> None:
    model, batch = build(name, task, pooling)
    with torch.no_grad():
        outputs = model(batch, attention=True)
        assert model(batch).attention is None
    attention, real = outputs.attention, batch.visual_attention_mask
    assert attention.shape == real.shape
    assert attention[real == 0].abs().sum() == 0
    assert (attention[real == 1] > 0).all()
    torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))


@both
@not_phrases
def test_a_batch_without_labels_has_scores_but_no_losses(name: str, task: str) -> None:
    model, batch = build(name, task)
    unlabelled = ModelInputs(
        **{**vars(batch), "targets": None, "label_ids": None}  # as of a test split
    )
    with torch.no_grad():
        outputs = model(unlabelled)
        torch.testing.assert_close(outputs.scores, model(batch).scores)
    assert not outputs.losses


@both
@every
def test_a_model_says_how_its_batches_are_made(name: str, task: str) -> None:
    options, goal = section(name), GOALS[task]
    settled = LoaderSection(**model_class(options, goal).loader_defaults(options, goal))
    longest = 20 if name == "lxmert" and goal.objective == "labels" else 128
    assert settled.max_tokens == longest
    assert settled.boxes == {"lxmert": "xyxy", "visualbert": "none"}[name]
    assert settled.pretraining is None


@both
@every
def test_a_checkpoint_gives_the_same_scores_again(name: str, task: str, tmp_path: Path) -> None:
    model, batch = build(name, task)
    model.save(tmp_path)
    CheckpointInfo("0", section(name), GOALS[task], LoaderSection(), "", {}, {}).write(tmp_path)
    again, info = load_checkpoint(tmp_path)
    assert info.goal == GOALS[task]
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(batch).scores, model(batch).scores, atol=0, rtol=0)


@both
def test_the_transformers_folder_says_what_the_scores_are_of(name: str, tmp_path: Path) -> None:
    model, _ = build(name, "answers")
    model.save(tmp_path)
    network = type(model.network).from_pretrained(tmp_path)
    assert network.config.id2label == dict(enumerate(LABELS))


@both
@pytest.mark.parametrize(
    ("goal", "said"),
    [
        (Goal("labels", DIM), "no labels"),
        (Goal("labels", DIM, LABELS, num_images=3), "3 images"),
        (Goal("choices", DIM, num_images=2), "reads at most 1 with objective=choices"),
    ],
)
def test_a_goal_that_cannot_be_learned_is_refused(name: str, goal: Goal, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_model(section(name), goal)
