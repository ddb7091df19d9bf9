"""The optimizer and its rates beside the original formulas, written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from vlray.config.training import OptimSection
from vlray.engine.optim import BertAdam, clip_each, freeze, lr_factor, make_optimizer, set_lr


def test_bert_adam_is_the_formula_of_bert() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(5, generator=generator, dtype=torch.float64)
    grads = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    param = nn.Parameter(start.clone())
    optimizer = BertAdam([param], 0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.02)
    value, mean, square = start.tolist(), [0.0] * 5, [0.0] * 5
    for grad in grads:
        param.grad = grad.clone()
        optimizer.step()
        for i, g in enumerate(grad.tolist()):
            mean[i] = 0.8 * mean[i] + 0.2 * g
            square[i] = 0.9 * square[i] + 0.1 * g * g
            value[i] -= 0.1 * (mean[i] / (math.sqrt(square[i]) + 1e-3) + 0.02 * value[i])
    assert param.tolist() == pytest.approx(value, rel=1e-12)


def test_bert_adam_goes_on_from_its_state() -> None:
    def steps(param: nn.Parameter, optimizer: BertAdam, grads: list[float]) -> None:
        for grad in grads:
            param.grad = torch.full_like(param, grad)
            optimizer.step()

    whole, half = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    steps(whole, BertAdam([whole], 0.1), [0.5, -0.2, 0.7])
    first = BertAdam([half], 0.1)
    steps(half, first, [0.5, -0.2])
    second = BertAdam([half], 0.1)
    second.load_state_dict(first.state_dict())
    steps(half, second, [0.7])
    assert torch.equal(whole, half)


def test_the_rate_rises_and_falls_as_lxmerts() -> None:
    options = OptimSection(warmup=0.2)
    rates = [lr_factor(step, 10, options) for step in range(10)]
    assert rates == pytest.approx([0, 0.5, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    assert lr_factor(0, 10, OptimSection(warmup=0)) == 1
    assert lr_factor(6, 10, OptimSection(warmup=0.2, decay="cosine")) == pytest.approx(0.5)
    assert lr_factor(9, 10, OptimSection(decay="none")) == 1


def test_new_parameters_and_norms_have_numbers_of_their_own() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    options = OptimSection(lr=0.1, new_lr=0.4, weight_decay=0.02, decay_norms=False)
    optimizer = make_optimizer(model, options, frozenset({"0.weight"}))
    assert set_lr(optimizer, 0.5) == 0.2
    found = {
        (group["lr"], group["weight_decay"]): [tuple(param.shape) for param in group["params"]]
        for group in optimizer.param_groups
    }
    assert found == {(0.2, 0.02): [(3, 4)], (0.05, 0.0): [(3,), (3,), (3,)]}


def test_frozen_parameters_are_not_among_those_of_the_optimizer() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    with pytest.raises(
        ValueError, match=r"model.freeze 0.wieght matches none .* similar name is 0.weight"
    ):
        freeze(model, ["0.wieght"])
    freeze(model, ["0.*"])
    optimizer = make_optimizer(model, OptimSection(), frozenset())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    with pytest.raises(ValueError, match="freezes all parameters"):
        freeze(model, ["*"])


def test_each_gradient_is_scaled_down_to_the_norm_alone() -> None:
    large, small, none = (nn.Parameter(torch.zeros(4)) for _ in range(3))
    large.grad, small.grad = torch.full((4,), 3.0), torch.full((4,), 0.1)
    clip_each([large, small, none], 1.0)
    torch.testing.assert_close(large.grad, torch.full((4,), 0.5))
    torch.testing.assert_close(small.grad, torch.full((4,), 0.1))
