"""Tensor shapes and anchors of the Visual Genome Faster R-CNN (ResNet-101 C4), as plain tables.

Names and order are Detectron2's: the last class is the background, and anchor ``a`` has the size
with index ``a // 3`` and the aspect ratio with index ``a % 3``. Does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

OBJECTS = 1600
ATTRIBUTES = 400
SIZES = 4
RATIOS = (0.5, 1.0, 2.0)  # height over width
ANCHORS = SIZES * len(RATIOS)
FEATURE_DIM, C4_DIM = 2048, 1024
PIXEL_MEAN = (102.9801, 115.9465, 122.7717)  # BGR
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Divisors of the box predictor's deltas."""

Shapes = dict[str, tuple[int, ...]]

_EMBEDDING = 256
_HIDDEN = 512
_BLOCKS = {"backbone.res2": 3, "backbone.res3": 4, "backbone.res4": 23, "roi_heads.res5": 3}
_PREDICTOR = "roi_heads.box_predictor"
_D2_SIZES = (64, 128, 256, 512)
_CAFFE_BASE = 16
_CAFFE_SCALES = (4, 8, 16, 32)


def canonical_shapes(with_attributes: bool) -> Shapes:
    """Return the shapes of the network's float32 tensors, keyed by name.

    Args:
        with_attributes: Whether the network has an attribute head.
    """
    shapes = _convolution("backbone.stem.conv1", 64, 3, 7)
    channels = 64
    for index, (stage, blocks) in enumerate(_BLOCKS.items()):
        bottleneck = 64 << index
        for block in range(blocks):
            name = f"{stage}.{block}"
            if block == 0:
                shapes |= _convolution(f"{name}.shortcut", 4 * bottleneck, channels, 1)
            shapes |= _convolution(f"{name}.conv1", bottleneck, channels, 1)
            shapes |= _convolution(f"{name}.conv2", bottleneck, bottleneck, 3)
            shapes |= _convolution(f"{name}.conv3", 4 * bottleneck, bottleneck, 1)
            channels = 4 * bottleneck
    head = "proposal_generator.rpn_head"
    shapes |= _layer(f"{head}.conv", 512, 1024, 3, 3)
    shapes |= _layer(f"{head}.objectness_logits", ANCHORS, 512, 1, 1)
    shapes |= _layer(f"{head}.anchor_deltas", 4 * ANCHORS, 512, 1, 1)
    shapes |= _layer(f"{_PREDICTOR}.cls_score", OBJECTS + 1, FEATURE_DIM)
    shapes |= _layer(f"{_PREDICTOR}.bbox_pred", 4 * OBJECTS, FEATURE_DIM)
    return shapes | attribute_shapes() if with_attributes else shapes


def attribute_shapes() -> Shapes:
    """Return the shapes of the attribute head's tensors, keyed by name."""
    return {
        f"{_PREDICTOR}.cls_embedding.weight": (OBJECTS + 1, _EMBEDDING),
        **_layer(f"{_PREDICTOR}.fc_attr", _HIDDEN, FEATURE_DIM + _EMBEDDING),
        **_layer(f"{_PREDICTOR}.attr_score", ATTRIBUTES + 1, _HIDDEN),
    }


def d2_anchors() -> list[tuple[float, float, float, float]]:
    """Return Detectron2's anchors of 64 to 512 pixels around (0, 0): size-major, not rounded."""
    anchors = []
    for size in _D2_SIZES:
        for ratio in RATIOS:
            width = size / math.sqrt(ratio)
            anchors.append((-width / 2, -width * ratio / 2, width / 2, width * ratio / 2))
    return anchors


def caffe_anchors(
    scales: Sequence[int] = _CAFFE_SCALES,
) -> list[tuple[float, float, float, float]]:
    """Return Caffe's anchors around (7.5, 7.5), ratio-major; x2 and y2 are the last pixels inside.

    Args:
        scales: Sides of the square anchors, in units of 16 pixels.

    Source:
        Table in py-faster-rcnn, lib/rpn/generate_anchors.py, with base size 16 and scales 4 to 32.
    """
    anchors = []
    center = (_CAFFE_BASE - 1) / 2
    for ratio in RATIOS:
        width = round(math.sqrt(_CAFFE_BASE**2 / ratio))
        height = round(width * ratio)  # rounds halves to even, as NumPy does
        for scale in scales:
            x, y = (width * scale - 1) / 2, (height * scale - 1) / 2
            anchors.append((center - x, center - y, center + x, center + y))
    return anchors


def _convolution(name: str, out_channels: int, in_channels: int, size: int) -> Shapes:
    """Return the tensor shapes of a convolution without bias and of its batch norm."""
    norms = ("weight", "bias", "running_mean", "running_var")
    return {
        f"{name}.weight": (out_channels, in_channels, size, size),
        **{f"{name}.norm.{part}": (out_channels,) for part in norms},
    }


def _layer(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
