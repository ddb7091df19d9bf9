"""Random weights of VinVL's detector in its published form, of any size.

    python -m tests.detect.vinvl_weights FOLDER

writes ``vinvl.pth`` in the real size (600 MB) and ``labels.json`` into FOLDER. As for
``vg_weights``, norms and predictors are fitted to crops of three photographs, so that activations
keep their scale and the scores of different regions differ.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d
from torchvision.ops import roi_align

from tests.detect.vg_weights import State, crops, random, rois, rounded, whitener
from vlray.detect.vinvl.layout import ANCHOR_SCALES, PIXEL_MEAN, STAGES, Layout, published_shapes
from vlray.detect.visual_genome.shapes import caffe_anchors

PUBLISHED = Layout((3, 8, 36, 3), 64, 256, 32, 256, 1594, 524)
NARROW = Layout((1, 1, 1, 3), 16, 32, 4, 32, 120, 40, 16, 32)
"""A network for tests: 0.9 million weights, and feature vectors of 256 numbers."""

_HEAD = "roi_heads.box.feature_extractor"
_PREDICTOR, _ATTRIBUTES = "roi_heads.box.predictor", "attribute.predictor"
# Deviations over regions of objectness and boxes' deltas; of logits, keyed by the vectors' length.
_OBJECTNESS, _DELTAS = 2.0, 0.12
_LOGITS = {256: 2.0, 2048: 4.5}  # narrow vectors of other photographs differ more from the fitted
_GROWTH = 0.35  # of every box: so that more of them overlap


@torch.no_grad()
def random_vinvl_state(layout: Layout = NARROW, seed: int = 0) -> State:
    """Make weights under their published names, with all that a published file has besides."""
    state = {name: random(shape, seed, name) for name, shape in published_shapes(layout).items()}
    shift = torch.tensor([102.9801, 115.9465, 122.7717]) - torch.tensor(PIXEL_MEAN)
    x = crops() + shift.double().view(1, 3, 1, 1)
    x = _fitted(state, "backbone.body.stem.conv1", "backbone.body.stem.bn1", x, 1, 2, 3).relu()
    x = max_pool2d(x, 3, 2, 1)
    *trunk, head = STAGES
    for index, name in enumerate(trunk):
        x = _stage(state, name, layout.blocks[index], x, 1 + (index > 0), layout.groups)
    _fit_rpn(state, x)
    pooled = roi_align(x, rois(seed), 14, 1 / 16)
    feats = _stage(state, head, layout.blocks[3], pooled, 2, layout.groups).mean((2, 3))
    _fit_layer(state, f"{_PREDICTOR}.cls_score", feats, _LOGITS[layout.feature_dim], seed)
    _fit_attributes(state, feats, _LOGITS[layout.feature_dim], seed)
    bbox_pred = random((4 * (layout.objects + 1), layout.feature_dim), seed, "bbox_pred")
    state |= {
        f"{_PREDICTOR}.bbox_pred.weight": bbox_pred * 0.01,
        f"{_PREDICTOR}.bbox_pred.bias": torch.zeros(len(bbox_pred)),
        "rpn.anchor_generator.cell_anchors.0": torch.tensor(caffe_anchors(ANCHOR_SCALES)),
    }
    copies = {
        name.replace("roi_heads.box", "attribute"): value
        for name, value in state.items()
        if name.startswith(_HEAD)
    }
    return {name: value.float().contiguous() for name, value in (state | copies).items()}


def write_vinvl(state: State, path: Path, prefix: str = "module.") -> Path:
    """Write weights as maskrcnn-benchmark's checkpointer does."""
    torch.save({"model": {prefix + name: value for name, value in state.items()}}, path)
    return path


def write_labels(layout: Layout, path: Path) -> Path:
    """Write a label map as the one that is published with VinVL's weights."""
    kinds = (("object", "label", layout.objects), ("attribute", "attribute", layout.attributes))
    content: dict[str, object] = {"predicate_to_idx": {"on": 1}}
    for word, name, count in kinds:
        names = {f"{word}-{index}": index for index in range(1, count + 1)}
        content[f"{name}_to_idx"] = names
        content[f"idx_to_{name}"] = {str(index): text for text, index in names.items()}
    path.write_text(json.dumps(content))
    return path


def _fitted(
    state: State, name: str, norm: str, x: Tensor, gain: float, stride: int, padding: int
) -> Tensor:
    """Convolve, and fit the norm so that what comes out has mean 0 and deviation ``gain``."""
    weight = state[f"{name}.weight"].double()
    groups = x.shape[1] // weight.shape[1]
    y = conv2d(x, weight, None, stride, padding, groups=groups)
    mean = rounded(y.mean((0, 2, 3)))
    var = rounded(y.var((0, 2, 3), correction=0) + 1e-3)
    state[f"{norm}.running_mean"], state[f"{norm}.running_var"] = mean, var
    state[f"{norm}.weight"] = torch.full_like(mean, gain)
    shape = (1, -1, 1, 1)
    return (y - mean.view(shape)) * (gain / var.sqrt()).view(shape)


def _stage(state: State, stage: str, blocks: int, x: Tensor, stride: int, groups: int) -> Tensor:
    for index in range(blocks):
        name, step = f"{stage}.{index}", stride if index == 0 else 1
        y = _fitted(state, f"{name}.conv1", f"{name}.bn1", x, 1, 1, 0).relu()
        y = _fitted(state, f"{name}.conv2", f"{name}.bn2", y, 1, step, 1).relu()
        y = _fitted(state, f"{name}.conv3", f"{name}.bn3", y, 0.3, 1, 0)
        if index == 0:
            x = _fitted(state, f"{name}.downsample.0", f"{name}.downsample.1", x, 1, step, 0)
        x = (x + y).relu()
    return x


def _fit_rpn(state: State, x: Tensor) -> None:
    hidden = conv2d(x, state["rpn.head.conv.weight"].double(), None, 1, 1).relu()
    for name, gain in (("cls_logits", _OBJECTNESS), ("bbox_pred", _DELTAS)):
        weight = state[f"rpn.head.{name}.weight"].double()
        out = conv2d(hidden, weight)
        scale = rounded(gain / out.std((0, 2, 3)))
        bias = -(out.mean((0, 2, 3)) * scale)
        if name == "bbox_pred":
            bias.view(-1, 4)[:, 2:] += _GROWTH
        state[f"rpn.head.{name}.weight"] = rounded(weight * scale.view(-1, 1, 1, 1))
        state[f"rpn.head.{name}.bias"] = rounded(bias)


def _fit_attributes(state: State, feats: Tensor, gain: float, seed: int) -> None:
    embedding = f"{_ATTRIBUTES}.cls_embedding.weight"
    state[embedding] = state[embedding] * (state[embedding].shape[1] / 2) ** 0.5 * 0.5
    logits = feats @ state[f"{_PREDICTOR}.cls_score.weight"].T
    classes = (logits + state[f"{_PREDICTOR}.cls_score.bias"])[:, 1:].argmax(1) + 1
    joined = torch.cat([feats, state[embedding][classes].double()], 1)
    hidden = (joined @ state[f"{_ATTRIBUTES}.fc_attr.weight"].double().T).relu()
    _fit_layer(state, f"{_ATTRIBUTES}.attr_score", hidden, gain, seed)


def _fit_layer(state: State, layer: str, inputs: Tensor, gain: float, seed: int) -> None:
    rows, mean = whitener(inputs, gain)
    count = len(state[f"{layer}.bias"])
    mixture = random((count, len(rows)), seed, layer).double() * (len(rows) / 2) ** 0.5
    weight = mixture @ rows
    state[f"{layer}.weight"] = rounded(weight)
    state[f"{layer}.bias"] = rounded(-weight @ mean)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    write_vinvl(random_vinvl_state(PUBLISHED), folder / "vinvl.pth")
    write_labels(PUBLISHED, folder / "labels.json")
