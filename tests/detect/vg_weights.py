"""Random weights of the Visual Genome detector under which its selection has something to do.

Norms and predictors are fitted to one synthetic image, so that activations keep their scale and
the scores of different regions differ. Fitted values depend on the machine's rounding only.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d
from torchvision.ops import roi_pool

from vlray.detect.vg_shapes import canonical_shapes

_PREDICTOR = "roi_heads.box_predictor"
_HEAD = "proposal_generator.rpn_head"
_SIDE = 320
_ROIS = 64
_CLASS_LOGITS, _ATTRIBUTE_LOGITS, _DELTAS = 4.0, 3.5, 0.15
_WEIGHTS_OF_DELTAS = (10.0, 10.0, 5.0, 5.0)

State = dict[str, Tensor]


@torch.no_grad()
def random_vg_state(seed: int = 0, with_attributes: bool = True) -> State:
    """Make canonical weights that give confident, different scores to different regions.

    Args:
        seed: Of the generator that all weights come from.
        with_attributes: Whether to make the head that predicts attributes.
    """
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in canonical_shapes(with_attributes).items():
        fan_in = max(1, torch.Size(shape[1:]).numel())
        state[name] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        if len(shape) == 1:
            state[name].zero_()
    coarse = torch.rand(1, 3, 20, 20, generator=generator) * 255
    image = torch.nn.functional.interpolate(coarse, size=(_SIDE, _SIDE), mode="bilinear")
    image += torch.randn(image.shape, generator=generator) * 10 - 115

    x = max_pool2d(
        _norm_fitted(state, "backbone.stem.conv1", image, 1, 2, 3).relu(), 3, 2, 0, 1, True
    )
    for stage, blocks, stride in (("res2", 3, 1), ("res3", 4, 2), ("res4", 23, 2)):
        x = _stage(state, f"backbone.{stage}", blocks, x, stride, 1)
    _fit_rpn(state, x)

    corners = torch.rand(_ROIS, 2, generator=generator) * _SIDE * 0.6
    sides = _SIDE * (0.15 + 0.25 * torch.rand(_ROIS, 2, generator=generator))
    rois = torch.cat([torch.zeros(_ROIS, 1), corners, corners + sides], 1)
    pooled = roi_pool(x, rois, (14, 14), 1 / 16)
    features = _stage(state, "roi_heads.res5", 3, pooled, 1, 2).mean((2, 3))
    _fit_predictor(state, features, with_attributes, generator)
    return state


def _norm_fitted(
    state: State, name: str, x: Tensor, gain: float, stride: int, padding: int, dilation: int = 1
) -> Tensor:
    """Convolve, and fit the norm so that what comes out has mean 0 and deviation ``gain``."""
    y = conv2d(x, state[f"{name}.weight"], None, stride, padding, dilation)
    mean, var = y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0) + 1e-3
    state[f"{name}.norm.running_mean"], state[f"{name}.norm.running_var"] = mean, var
    state[f"{name}.norm.weight"] = torch.full_like(mean, gain)
    shape = (1, -1, 1, 1)
    return (y - mean.view(shape)) * (gain / (var + 1e-5).sqrt()).view(shape)


def _stage(state: State, stage: str, blocks: int, x: Tensor, stride: int, dilation: int) -> Tensor:
    for index in range(blocks):
        name, step = f"{stage}.{index}", stride if index == 0 else 1
        y = _norm_fitted(state, f"{name}.conv1", x, 1, step, 0).relu()
        y = _norm_fitted(state, f"{name}.conv2", y, 1, 1, dilation, dilation).relu()
        y = _norm_fitted(state, f"{name}.conv3", y, 0.3, 1, 0)
        if index == 0:
            x = _norm_fitted(state, f"{name}.shortcut", x, 1, step, 0)
        x = (x + y).relu()
    return x


def _fit_rpn(state: State, x: Tensor) -> None:
    hidden = conv2d(x, state[f"{_HEAD}.conv.weight"], None, 1, 1).relu().mean((2, 3), True)
    spread = conv2d(x, state[f"{_HEAD}.conv.weight"], None, 1, 1).relu()
    for name, gain in (("objectness_logits", 2.0), ("anchor_deltas", _DELTAS)):
        weight = state[f"{_HEAD}.{name}.weight"]
        weight *= gain / conv2d(spread, weight).std((0, 2, 3)).view(-1, 1, 1, 1)
        state[f"{_HEAD}.{name}.bias"] = -conv2d(hidden, weight).flatten()


def _whitener(features: Tensor, gain: float) -> tuple[Tensor, Tensor]:
    """Give (rows, mean): random mixtures of rows score regions with a deviation near ``gain``."""
    mean = features.mean(0)
    centered = (features - mean).double()
    gram = centered @ centered.T
    ridge = 0.01 * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.double)
    rows = torch.linalg.solve(gram + ridge, centered)
    rows *= gain / (rows @ centered.T).square().sum(0).mean().sqrt()
    return rows.float(), mean


def _fit_predictor(
    state: State, x: Tensor, with_attributes: bool, generator: torch.Generator
) -> None:
    outputs = [("cls_score", x, _CLASS_LOGITS), ("bbox_pred", x, _DELTAS)]
    if with_attributes:
        name = f"{_PREDICTOR}.cls_embedding.weight"
        state[name] = torch.randn(state[name].shape, generator=generator) * 0.5
        classes = (x @ state[f"{_PREDICTOR}.cls_score.weight"].T).argmax(1)
        joined = torch.cat([x, state[name][classes]], 1)
        hidden = (joined @ state[f"{_PREDICTOR}.fc_attr.weight"].T).relu()
        outputs.append(("attr_score", hidden, _ATTRIBUTE_LOGITS))
    for layer, inputs, gain in outputs:
        rows, mean = _whitener(inputs, gain)
        count = len(state[f"{_PREDICTOR}.{layer}.bias"])
        weight = torch.randn(count, len(rows), generator=generator) @ rows
        if layer == "bbox_pred":
            weight *= torch.tensor(_WEIGHTS_OF_DELTAS).repeat(count // 4)[:, None]
        state[f"{_PREDICTOR}.{layer}.weight"] = weight
        state[f"{_PREDICTOR}.{layer}.bias"] = -weight @ mean
