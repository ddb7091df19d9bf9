"""``lite``'s network: Detectron2's Faster R-CNN on EfficientNet-Lite0 with frozen batch norms.

Shapes: N: images; R: boxes of all images; H, W: height and width of a feature map.
"""

from __future__ import annotations

from typing import Any

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import torch
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone import Backbone
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.proposal_generator.rpn import StandardRPNHead
from detectron2.modeling.roi_heads import (
    FastRCNNConvFCHead,
    FastRCNNOutputLayers,
    StandardROIHeads,
)
from detectron2.structures import Boxes
from torch import Tensor, nn
from torch.nn import functional

from vlray.detect.lite.body import imagenet_body

BOX_HEAD_DIM = 512
# Three stages of the backbone are also pooled into a region's vector, behind the box head's output:
# a linear probe classifies more boxes with both than with either
# (tests/benchmarks/lite_probe.py).
STAGES = ("stage8", "stage16", "stage32")  # by stride
STAGE_CHANNELS = (40, 112, 320)
STAGE_SCALES = (0.4, 0.4, 0.5)  # so that the stages' values vary as much as the box head's
FEATURE_DIM = BOX_HEAD_DIM + sum(STAGE_CHANNELS)
PYRAMID_CHANNELS = 96
POOL_SIZE = 5
LEVELS = ("p3", "p4", "p5", "p6")
STRIDES = (8, 16, 32, 64)
# Two sizes per level, less than an octave apart, from 14 to 430 pixels of the resized image.
ANCHOR_SIZES = ((14, 24), (40, 68), (112, 180), (280, 430))
ASPECT_RATIOS = (0.5, 1.0, 2.0)
SEMANTIC_CHANNELS = 1280
DROPOUT = 0.2  # fraction of the pooled values that training drops
# Blocks of EfficientNet-Lite0 that were fine-tuned and are shipped: strides 8 and 16. Fine-tuning
# lower blocks gains nothing. Higher blocks encode ImageNet's classes, which training on 288 images
# would blur.
TRAINED_BLOCKS = (2, 3, 4)


class LiteBackbone(Backbone):  # type: ignore[misc] # Detectron2 is untyped
    """EfficientNet-Lite0 with a feature pyramid; also returns the last ImageNet features.

    Batch norms are folded into their convolutions, so training never updates them. The input is
    BGR: the first convolution's channels were reversed once, so that no image has to be.

    Source:
        Feature Pyramid Networks (arXiv:1612.03144).
    """

    size_divisibility = 32  # at other sizes, stride-2 convolutions may shift the features

    def __init__(self) -> None:
        super().__init__()
        self.body: Any = imagenet_body()
        self.lateral = nn.ModuleList(_conv(width, kernel_size=1) for width in STAGE_CHANNELS)
        self.output = nn.ModuleList(_conv(PYRAMID_CHANNELS, kernel_size=3) for _ in STAGE_CHANNELS)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the pyramid's levels, ``semantic`` and the stages: (N, channels, H, W) each."""
        maps = self.stages_of(images)
        inputs = [maps[name] for name in STAGES]
        merged: list[Tensor] = []
        for lateral, stage in zip(reversed(self.lateral), reversed(inputs), strict=True):
            level = lateral(stage)
            if merged:  # top-down pathway: add the next coarser level
                level = level + functional.interpolate(merged[0], size=level.shape[-2:])
            merged.insert(0, level)
        levels = [output(level) for output, level in zip(self.output, merged, strict=True)]
        levels.append(functional.max_pool2d(levels[-1], kernel_size=1, stride=2))
        return dict(zip(LEVELS, levels, strict=True)) | maps

    def stages_of(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the stages and ``semantic``, the last ImageNet features: (N, channels, H, W)."""
        x = images.contiguous(memory_format=torch.channels_last)  # twice as fast on a CPU
        x = self.body.bn1(self.body.conv_stem(x))
        stages = []
        for index, block in enumerate(self.body.blocks):
            # No gradient flows back through the blocks above the trained ones: it would cost a
            # third of the time and degrade ImageNet's classes.
            x = block(x.detach() if index == TRAINED_BLOCKS[-1] + 1 else x)
            stages.append(x)
        maps = dict(zip(STAGES, (stages[2], stages[4], stages[6]), strict=True))
        return maps | {"semantic": self.body.bn2(self.body.conv_head(x))}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Return the channels and the stride of each map that ``forward`` returns."""
        shapes = {
            name: ShapeSpec(channels=PYRAMID_CHANNELS, stride=stride)
            for name, stride in zip(LEVELS, STRIDES, strict=True)
        }
        shapes["semantic"] = ShapeSpec(channels=SEMANTIC_CHANNELS, stride=32)
        stages = zip(STAGES, STAGE_CHANNELS, (8, 16, 32), strict=True)
        return shapes | {name: ShapeSpec(channels=c, stride=stride) for name, c, stride in stages}


class LitePooler(nn.Module):
    """RoI pooling from each box's pyramid level, the last ImageNet features and the stages."""

    def __init__(self) -> None:
        super().__init__()
        # Boxes of 112 pixels (224 in FPN) are pooled at stride 16, into 5 x 5 cells (7 x 7 in FPN).
        self.pyramid = ROIPooler(
            output_size=POOL_SIZE,
            scales=[1 / stride for stride in STRIDES[:3]],
            sampling_ratio=2,
            pooler_type="ROIAlignV2",
            canonical_box_size=112,
            canonical_level=4,
        )
        self.semantic = _mean_pooler(stride=32)
        self.stages = nn.ModuleList(_mean_pooler(stride) for stride in STRIDES[:3])

    def forward(self, features: list[Tensor], boxes: list[Boxes]) -> Tensor:
        """Pool R boxes from p3, p4, p5, ``semantic`` and the stages.

        Returns:
            The box head's input, (R, pooled_dim()), and behind it the stages' means, which training
            does not need: (R, pooled_dim() + sum(STAGE_CHANNELS)) in evaluation mode.
        """
        cells = self.pyramid(features[:3], boxes).flatten(1)
        pooled = torch.cat([cells, self.semantic(features[3:4], boxes).flatten(1)], dim=1)
        if self.training:
            return functional.dropout(pooled, DROPOUT)
        means = [
            pooler([stage], boxes).flatten(1) * scale
            for pooler, stage, scale in zip(self.stages, features[4:], STAGE_SCALES, strict=True)
        ]
        return torch.cat([pooled, *means], dim=1)


class LiteBoxHead(FastRCNNConvFCHead):  # type: ignore[misc] # Detectron2 is untyped
    """Two linear layers; the stages' means stay behind their output."""

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the vectors of R regions, (R, FEATURE_DIM) in evaluation mode."""
        hidden = super().forward(pooled[:, : pooled_dim()])
        return torch.cat([hidden, pooled[:, pooled_dim() :]], dim=1)


class LitePredictor(FastRCNNOutputLayers):  # type: ignore[misc] # Detectron2 is untyped
    """Classes and boxes from the box head's part of the vectors."""

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits, (R, K + 1), and box deltas, (R, 4)."""
        predictions: tuple[Tensor, Tensor] = super().forward(vectors[:, :BOX_HEAD_DIM])
        return predictions


def pooled_dim() -> int:
    """Return the length of the box head's input, which begins with the pyramid's cells."""
    return PYRAMID_CHANNELS * POOL_SIZE**2 + SEMANTIC_CHANNELS


def build_lite(num_classes: int, *, nms_thresh: float = 0.5) -> GeneralizedRCNN:
    """Build ``lite``'s network with ImageNet weights; the pyramid and the heads are untrained.

    Args:
        num_classes: Number of object classes, without the background.
        nms_thresh: IoU above which a proposal suppresses one with lower objectness. Training needs
            0.7, to learn from boxes with any overlap; in inference, 0.5 detects more objects.
    """
    backbone = LiteBackbone()
    pooled = ShapeSpec(channels=pooled_dim(), height=1, width=1)
    box_head = LiteBoxHead(pooled, conv_dims=[], fc_dims=[BOX_HEAD_DIM, BOX_HEAD_DIM])
    model = GeneralizedRCNN(
        backbone=backbone,
        proposal_generator=_proposals(nms_thresh),
        roi_heads=StandardROIHeads(
            num_classes=num_classes,
            batch_size_per_image=128,
            positive_fraction=0.25,
            proposal_matcher=Matcher([0.5], [0, 1], allow_low_quality_matches=False),
            box_in_features=[*LEVELS[:3], "semantic", *STAGES],
            box_pooler=LitePooler(),
            box_head=box_head,
            box_predictor=LitePredictor(
                box_head.output_shape,
                box2box_transform=Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0)),
                num_classes=num_classes,
                cls_agnostic_bbox_reg=True,
            ),
        ),
        pixel_mean=(127.0, 127.0, 127.0),
        pixel_std=(128.0, 128.0, 128.0),
        input_format="BGR",
    )
    for parameter in backbone.body.parameters():
        parameter.requires_grad_(False)
    for index in TRAINED_BLOCKS:
        for parameter in backbone.body.blocks[index].parameters():
            parameter.requires_grad_(True)
    return model.to(memory_format=torch.channels_last)


def trained_names(model: nn.Module) -> set[str]:
    """Return the names of the trained tensors, the only ones in a weights file for ``lite``."""
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def _proposals(nms_thresh: float) -> RPN:
    """Build Detectron2's proposal generator over the pyramid."""
    anchors = len(ANCHOR_SIZES[0]) * len(ASPECT_RATIOS)
    return RPN(
        in_features=list(LEVELS),
        head=StandardRPNHead(in_channels=PYRAMID_CHANNELS, num_anchors=anchors),
        anchor_generator=DefaultAnchorGenerator(
            sizes=[list(sizes) for sizes in ANCHOR_SIZES],
            aspect_ratios=[list(ASPECT_RATIOS)],
            strides=list(STRIDES),
            offset=0.5,
        ),
        anchor_matcher=Matcher([0.4, 0.6], [0, -1, 1], allow_low_quality_matches=True),
        box2box_transform=Box2BoxTransform(weights=(1.0, 1.0, 1.0, 1.0)),
        batch_size_per_image=256,
        positive_fraction=0.5,
        pre_nms_topk=(500, 600),  # per level: training, inference
        post_nms_topk=(300, 200),
        nms_thresh=nms_thresh,
    )


def _mean_pooler(stride: int) -> ROIPooler:
    """Build a pooler that averages one feature map over each box."""
    return ROIPooler(output_size=1, scales=[1 / stride], sampling_ratio=4, pooler_type="ROIAlignV2")


def _conv(in_channels: int, kernel_size: int) -> Conv2d:
    """Build a pyramid convolution with group norm, which suits small batches."""
    conv = Conv2d(
        in_channels,
        PYRAMID_CHANNELS,
        kernel_size=kernel_size,
        padding=kernel_size // 2,
        bias=False,
        norm=nn.GroupNorm(PYRAMID_CHANNELS // 4, PYRAMID_CHANNELS),
    )
    nn.init.kaiming_uniform_(conv.weight, a=1)
    return conv
