"""Losses over labels beside the recipes' own formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.models.batches import GOALS, batch_for
from vlray.config.model import ModelSection
from vlray.models.losses import (
    binary_cross_entropy,
    choose_loss,
    cross_entropy,
    divergence,
    label_losses,
)


def scores_of(batch_size: int = 3, labels: int = 4) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(batch_size, labels, requires_grad=True)


def test_each_label_alone_is_the_mean_times_the_number_of_labels() -> None:
    scores, targets = scores_of(), batch_for(GOALS["answers"]).targets
    assert targets is not None
    loss = binary_cross_entropy(scores, targets)
    wanted = nn.BCEWithLogitsLoss()(scores, targets) * targets.shape[1]  # LXMERT, vqa.py
    torch.testing.assert_close(loss.mean, wanted)
    assert loss.count == 3


def test_the_divergence_is_that_of_torch_over_the_batch() -> None:
    scores, targets = scores_of(), batch_for(GOALS["answers"]).targets
    assert targets is not None
    loss = divergence(scores, targets)
    wanted = nn.KLDivLoss(reduction="batchmean")(torch.log_softmax(scores, 1), targets)
    torch.testing.assert_close(loss.mean, wanted)
    assert loss.count == 3


@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_a_divergence_from_one_right_label_pulls_as_cross_entropy_does(smoothing: float) -> None:
    scores, ids = scores_of(), torch.tensor([2, 0, 3])
    of_targets = divergence(scores, nn.functional.one_hot(ids, 4), smoothing)
    of_ids = cross_entropy(scores, ids, smoothing)
    (first,) = torch.autograd.grad(of_targets.mean, scores)
    (second,) = torch.autograd.grad(of_ids.mean, scores)
    torch.testing.assert_close(first, second)


def test_smoothing_gives_an_example_without_an_answer_nothing() -> None:
    scores = scores_of()
    targets = torch.tensor([[0.0, 1, 0, 0], [0, 0, 0, 0], [0.3, 0, 0, 0.9]])
    (pull,) = torch.autograd.grad(divergence(scores, targets, 0.1).mean, scores)
    assert pull.abs().sum(1).gt(0).tolist() == [True, False, True]


@pytest.mark.parametrize("smoothing", [0, 0.2])
def test_cross_entropy_is_over_the_examples_whose_label_is_known(smoothing: float) -> None:
    scores, ids = scores_of(), torch.tensor([2, -100, 3])
    loss = cross_entropy(scores, ids, smoothing)
    wanted = nn.CrossEntropyLoss(label_smoothing=smoothing)(scores, ids)
    torch.testing.assert_close(loss.mean, wanted)
    assert loss.count == 2


def test_a_batch_without_any_known_label_adds_nothing() -> None:
    scores = scores_of()
    loss = cross_entropy(scores, torch.full((3,), -100))
    loss.mean.backward()
    assert (loss.mean, loss.count) == (0, 0)
    assert scores.grad is not None
    assert scores.grad.abs().sum() == 0


@pytest.mark.parametrize("how", ["bce", "kl", "cross-entropy"])
def test_losses_of_half_precision_scores_are_float32(how: str) -> None:
    options = ModelSection(loss=how)
    batch = batch_for(GOALS["answers"])
    loss = label_losses(choose_loss(options, "kl"), scores_of().bfloat16(), batch, 0)["labels"]
    assert loss.mean.dtype == loss.count.dtype == torch.float32


def test_smoothing_that_the_loss_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match=r"label_smoothing=0\.1 has no effect on bce"):
        choose_loss(ModelSection(label_smoothing=0.1), "bce")
    assert choose_loss(ModelSection(label_smoothing=0.1, loss="kl"), "bce") == "kl"
