"""Random weights of the Visual Genome detector under which its selection has something to do.

Norms and predictors are fitted to crops of three photographs, so that activations keep their scale
on other photographs as well, and the scores of different regions differ. All is computed in float64
and rounded to 10 bits: the same seed gives the same weights on every machine.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import skimage
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, max_pool2d
from torchvision.ops import roi_pool

from vlray.detect.visual_genome.shapes import BOX_WEIGHTS, canonical_shapes

_PREDICTOR = "roi_heads.box_predictor"
_HEAD = "proposal_generator.rpn_head"
_BITS = 10
_SIDE = 192
# Photograph, left, top and side of a crop of it, which is brought to _SIDE.
_CROPS = (
    ("astronaut.png", 130, 20, 192),
    ("coffee.png", 200, 60, 288),
    ("chelsea.png", 120, 60, 96),
)
_ROIS = 20  # of each crop
# Deviations over regions of class and attribute logits, of objectness, and of boxes' deltas.
_CLASS_LOGITS, _ATTRIBUTE_LOGITS, _OBJECTNESS, _DELTAS = 4.5, 4.5, 2.0, 0.12
_GROWTH = 0.35  # of every box, in each of the two stages: so that more of them overlap
_RIDGE = 0.1

State = dict[str, Tensor]


@torch.no_grad()
def random_vg_state(seed: int = 0, with_attributes: bool = True) -> State:
    """Make canonical weights that give confident, different scores to different regions.

    Args:
        seed: Of the generators that all weights come from.
        with_attributes: Whether to make the head that predicts attributes; the others are the
            same with it and without.
    """
    state = {
        name: random(shape, seed, name) for name, shape in canonical_shapes(with_attributes).items()
    }
    x = max_pool2d(
        _norm_fitted(state, "backbone.stem.conv1", crops(), 1, 2, 3).relu(), 3, 2, 0, 1, True
    )
    for stage, blocks, stride in (("res2", 3, 1), ("res3", 4, 2), ("res4", 23, 2)):
        x = _stage(state, f"backbone.{stage}", blocks, x, stride)
    _fit_rpn(state, x)
    # A dilated stage of 14x14 is four undilated ones of 7x7 each; one of them tells enough.
    pooled = roi_pool(x, rois(seed), (14, 14), 1 / 16)[:, :, ::2, ::2]
    features = _stage(state, "roi_heads.res5", 3, pooled, 1).mean((2, 3))
    _fit_predictor(state, features, with_attributes, seed)
    return {name: value.float().contiguous() for name, value in state.items()}


def random(shape: tuple[int, ...], seed: int, name: str) -> Tensor:
    """Draw weights of variance 2 / fan_in; vectors are zero. Integers are the same everywhere."""
    if len(shape) == 1:
        return torch.zeros(shape, dtype=torch.double)
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    values = torch.from_numpy(generator.integers(-127, 128, shape, dtype=np.int8)).float()
    fan_in = torch.Size(shape[1:]).numel()
    return values * ((2 / fan_in) ** 0.5 / 73.3)


def rounded(values: Tensor) -> Tensor:
    """Keep so few bits that the last ones of float64, which differ between CPUs, do not count."""
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp((mantissa * 2**_BITS).round() / 2**_BITS, exponent)


def crops() -> Tensor:
    """Give parts of photographs as the network takes them: BGR, without the mean."""
    crops = []
    for name, left, top, side in _CROPS:
        pixels = np.asarray(
            Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")
        )
        crop = torch.from_numpy(pixels[top : top + side, left : left + side, ::-1].copy())
        size = (_SIDE, _SIDE)
        image = crop.permute(2, 0, 1)[None].double()
        crops.append(interpolate(image, size, mode="bilinear", align_corners=False))
    return torch.cat(crops) - torch.tensor([102.9801, 115.9465, 122.7717]).view(1, 3, 1, 1)


def rois(seed: int) -> Tensor:
    generator = np.random.default_rng([seed, 1])
    count = len(_CROPS) * _ROIS
    corners = torch.from_numpy(generator.integers(0, _SIDE * 3 // 5, (count, 2)))
    sides = torch.from_numpy(generator.integers(_SIDE // 6, _SIDE * 2 // 3, (count, 2)))
    image = torch.arange(count)[:, None] % len(_CROPS)
    return torch.cat([image, corners, (corners + sides).clamp(max=_SIDE)], 1).double()


def _norm_fitted(
    state: State, name: str, x: Tensor, gain: float, stride: int, padding: int
) -> Tensor:
    """Convolve, and fit the norm so that what comes out has mean 0 and deviation ``gain``."""
    y = conv2d(x, state[f"{name}.weight"].double(), None, stride, padding)
    mean = rounded(y.mean((0, 2, 3)))
    var = rounded(y.var((0, 2, 3), correction=0) + 1e-3)
    state[f"{name}.norm.running_mean"], state[f"{name}.norm.running_var"] = mean, var
    state[f"{name}.norm.weight"] = torch.full_like(mean, gain)
    shape = (1, -1, 1, 1)
    return (y - mean.view(shape)) * (gain / (var + 1e-5).sqrt()).view(shape)


def _stage(state: State, stage: str, blocks: int, x: Tensor, stride: int) -> Tensor:
    for index in range(blocks):
        name, step = f"{stage}.{index}", stride if index == 0 else 1
        y = _norm_fitted(state, f"{name}.conv1", x, 1, step, 0).relu()
        y = _norm_fitted(state, f"{name}.conv2", y, 1, 1, 1).relu()
        y = _norm_fitted(state, f"{name}.conv3", y, 0.3, 1, 0)
        if index == 0:
            x = _norm_fitted(state, f"{name}.shortcut", x, 1, step, 0)
        x = (x + y).relu()
    return x


def _fit_rpn(state: State, x: Tensor) -> None:
    hidden = conv2d(x, state[f"{_HEAD}.conv.weight"].double(), None, 1, 1).relu()
    for name, gain in (("objectness_logits", _OBJECTNESS), ("anchor_deltas", _DELTAS)):
        weight = state[f"{_HEAD}.{name}.weight"].double()
        found = conv2d(hidden, weight)
        scale = rounded(gain / found.std((0, 2, 3)))
        bias = -(found.mean((0, 2, 3)) * scale)
        if name == "anchor_deltas":
            bias.view(-1, 4)[:, 2:] += _GROWTH
        state[f"{_HEAD}.{name}.weight"] = rounded(weight * scale.view(-1, 1, 1, 1))
        state[f"{_HEAD}.{name}.bias"] = rounded(bias)


def whitener(features: Tensor, gain: float) -> tuple[Tensor, Tensor]:
    """Give (rows, mean): random mixtures of rows score regions with a deviation near ``gain``."""
    mean = features.mean(0)
    centered = features - mean
    gram = centered @ centered.T
    ridge = _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.double)
    rows = torch.linalg.solve(gram + ridge, centered)
    rows *= gain / (rows @ centered.T).square().sum(0).mean().sqrt()
    return rows, mean


def _fit_predictor(state: State, x: Tensor, with_attributes: bool, seed: int) -> None:
    inputs = [("cls_score", x, _CLASS_LOGITS), ("bbox_pred", x, _DELTAS)]
    for layer, features, gain in inputs:
        _fit_layer(state, layer, features, gain, seed)
    bias = state[f"{_PREDICTOR}.bbox_pred.bias"].view(-1, 4)
    bias[:, 2:] += _GROWTH * BOX_WEIGHTS[2]
    if not with_attributes:
        return
    name = f"{_PREDICTOR}.cls_embedding.weight"
    state[name] = state[name] * (256 / 2) ** 0.5 * 0.5
    logits = x @ state[f"{_PREDICTOR}.cls_score.weight"].T + state[f"{_PREDICTOR}.cls_score.bias"]
    joined = torch.cat([x, state[name][logits.argmax(1)].double()], 1)
    hidden = (joined @ state[f"{_PREDICTOR}.fc_attr.weight"].double().T).relu()
    _fit_layer(state, "attr_score", hidden, _ATTRIBUTE_LOGITS, seed)


def _fit_layer(state: State, layer: str, inputs: Tensor, gain: float, seed: int) -> None:
    rows, mean = whitener(inputs, gain)
    count = len(state[f"{_PREDICTOR}.{layer}.bias"])
    mixture = random((count, len(rows)), seed, layer).double() * (len(rows) / 2) ** 0.5
    weight = mixture @ rows
    if layer == "bbox_pred":
        weight *= torch.tensor(BOX_WEIGHTS).repeat(count // 4)[:, None]
    state[f"{_PREDICTOR}.{layer}.weight"] = rounded(weight)
    state[f"{_PREDICTOR}.{layer}.bias"] = rounded(-weight @ mean)
