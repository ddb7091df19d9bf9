"""The network: a ResNe(X)t with a feature pyramid, an RPN and a box head of two layers.

The modules have the names of maskrcnn-benchmark's, so that its checkpoints load without renaming.

Shapes: N: images; C: channels; H, W: height and width of a map; A: anchors per cell; M: regions of
all images; S: side of a pooled region; D: length of fc6 and fc7; K: classes with the background.
"""

from __future__ import annotations

from collections.abc import Sequence

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import torch
from detectron2.layers import FrozenBatchNorm2d
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import roi_align

from vlray.detect.vmb.anchors import cell_anchors
from vlray.detect.vmb.config import Layout


def _norm(channels: int) -> nn.Module:
    norm: nn.Module = FrozenBatchNorm2d(channels, eps=0)  # unlike Detectron2's, it has no eps
    return norm


class Bottleneck(nn.Module):
    """Residual block of three convolutions."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, layout: Layout) -> None:
        """Build the block; ``layout`` says which convolution has the stride."""
        super().__init__()
        stride_1x1, stride_3x3 = (stride, 1) if layout.stride_in_1x1 else (1, stride)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(outputs))
            if inputs != outputs
            else None
        )
        self.conv1 = nn.Conv2d(inputs, width, 1, stride_1x1, bias=False)
        self.bn1 = _norm(width)
        self.conv2 = nn.Conv2d(
            width, width, 3, stride_3x3, padding=1, groups=layout.groups, bias=False
        )
        self.bn2 = _norm(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = _norm(outputs)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Tensor:
        """Run the block."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu_(self.bn1(self.conv1(x)))
        x = functional.relu_(self.bn2(self.conv2(x)))
        return functional.relu_(self.bn3(self.conv3(x)) + shortcut)


class Stem(nn.Module):
    """First convolution and max-pooling."""

    def __init__(self, channels: int) -> None:
        """Build the layers."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 7, 2, padding=3, bias=False)
        self.bn1 = _norm(channels)

    def forward(self, x: Float[Tensor, "N 3 H W"]) -> Tensor:
        """Reduce the image to a quarter of its size."""
        x = functional.relu_(self.bn1(self.conv1(x)))
        return functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class Body(nn.Module):
    """The stages of the ResNe(X)t."""

    def __init__(self, layout: Layout) -> None:
        """Build the stem and ``layer1`` to ``layer4``."""
        super().__init__()
        self.stem = Stem(layout.stem)
        inputs, width = layout.stem, layout.groups * layout.width_per_group
        outputs = layout.res2
        for number, blocks in enumerate(layout.blocks, 1):
            stage = nn.Sequential()
            for index in range(blocks):
                stride = 2 if number > 1 and index == 0 else 1
                stage.append(Bottleneck(inputs, width, outputs, stride, layout))
                inputs = outputs
            self.add_module(f"layer{number}", stage)
            width, outputs = width * 2, outputs * 2
        self._stages = len(layout.blocks)

    def forward(self, x: Float[Tensor, "N 3 H W"]) -> list[Tensor]:
        """Return the map of each stage."""
        x = self.stem(x)
        maps = []
        for number in range(1, self._stages + 1):
            x = self.get_submodule(f"layer{number}")(x)
            maps.append(x)
        return maps


class Pyramid(nn.Module):
    """Feature pyramid with one more, coarser level for the RPN."""

    def __init__(self, layout: Layout) -> None:
        """Build a lateral and an output convolution for each stage."""
        super().__init__()
        self._levels = len(layout.blocks)
        for number in range(1, self._levels + 1):
            channels = layout.res2 * 2 ** (number - 1)
            self.add_module(f"fpn_inner{number}", nn.Conv2d(channels, layout.channels, 1))
            output = nn.Conv2d(layout.channels, layout.channels, 3, padding=1)
            self.add_module(f"fpn_layer{number}", output)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the pyramid's maps, from the finest to the coarsest."""
        levels: list[Tensor] = []
        merged: Tensor | None = None
        for number in range(self._levels, 0, -1):
            lateral = self.get_submodule(f"fpn_inner{number}")(maps[number - 1])
            if merged is not None:
                lateral = lateral + functional.interpolate(merged, scale_factor=2, mode="nearest")
            merged = lateral
            levels.insert(0, self.get_submodule(f"fpn_layer{number}")(merged))
        return [*levels, functional.max_pool2d(levels[-1], 1, 2)]


class RpnHead(nn.Module):
    """Objectness and box regression of each anchor."""

    def __init__(self, channels: int, anchors: int) -> None:
        """Build the layers."""
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.cls_logits = nn.Conv2d(channels, anchors, 1)
        self.bbox_pred = nn.Conv2d(channels, anchors * 4, 1)

    def forward(self, x: Float[Tensor, "N C H W"]) -> tuple[Tensor, Tensor]:
        """Return logits (N, H*W*A) and deltas (N, H*W*A, 4), row by row."""
        x = functional.relu_(self.conv(x))
        logits = self.cls_logits(x).permute(0, 2, 3, 1).flatten(1)
        deltas = self.bbox_pred(x)
        deltas = deltas.view(len(x), -1, 4, *deltas.shape[2:]).permute(0, 3, 4, 1, 2)
        return logits, deltas.reshape(len(x), -1, 4)


class BoxHead(nn.Module):
    """RoI pooling, ``fc6``, ``fc7`` and the class scores."""

    def __init__(self, layout: Layout) -> None:
        """Build the layers."""
        super().__init__()
        self._layout = layout
        inputs = layout.channels * layout.pooler_resolution**2
        self.feature_extractor = nn.ModuleDict(
            {
                "fc6": nn.Linear(inputs, layout.fc_dim),
                "fc7": nn.Linear(layout.fc_dim, layout.fc_dim),
            }
        )
        # Regions are the pooled proposals, so bbox_pred never runs; it is part of every checkpoint.
        self.predictor = nn.ModuleDict(
            {
                "cls_score": nn.Linear(layout.fc_dim, layout.num_classes),
                "bbox_pred": nn.Linear(layout.fc_dim, layout.num_classes * 4),
            }
        )

    def forward(
        self, maps: Sequence[Tensor], rois: Float[Tensor, "M 5"]
    ) -> tuple[Float[Tensor, "M D"], Float[Tensor, "M D"], Float[Tensor, "M K"]]:
        """Return fc6, fc7 and the class probabilities, background first.

        Args:
            maps: Levels of the pyramid.
            rois: Index of the image and box of each region, in pixels of the resized image.
        """
        pooled = self._pool(maps, rois).flatten(1)
        fc6 = functional.relu_(self.feature_extractor["fc6"](pooled))
        fc7 = functional.relu_(self.feature_extractor["fc7"](fc6))
        return fc6, fc7, self.predictor["cls_score"](fc7).softmax(dim=1)

    def _pool(self, maps: Sequence[Tensor], rois: Float[Tensor, "M 5"]) -> Float[Tensor, "M C S S"]:
        scales, side = self._layout.pooler_scales, self._layout.pooler_resolution
        pooled = maps[0].new_zeros(len(rois), maps[0].shape[1], side, side)
        levels = levels_of(rois[:, 1:], scales)
        for level, scale in enumerate(scales):
            rows = (levels == level).nonzero().squeeze(1)
            # aligned=False: without Detectron2's shift by half a pixel.
            pooled[rows] = roi_align(
                maps[level], rois[rows], side, scale, self._layout.pooler_sampling, aligned=False
            )
        return pooled


class VmbNetwork(nn.Module):
    """The whole network."""

    def __init__(self, layout: Layout) -> None:
        """Build it without weights."""
        super().__init__()
        self.layout = layout
        self.backbone = nn.ModuleDict({"body": Body(layout), "fpn": Pyramid(layout)})
        tables = nn.Module()
        for level, table in enumerate(cell_anchors(layout)):
            tables.register_buffer(str(level), table)
        generator = nn.ModuleDict({"cell_anchors": tables})
        anchors = len(layout.aspect_ratios)
        self.rpn = nn.ModuleDict(
            {"anchor_generator": generator, "head": RpnHead(layout.channels, anchors)}
        )
        self.roi_heads = nn.ModuleDict({"box": BoxHead(layout)})

    def pyramid(self, pixels: Float[Tensor, "N 3 H W"]) -> list[Tensor]:
        """Run the backbone on normalized, padded images."""
        levels: list[Tensor] = self.backbone["fpn"](self.backbone["body"](pixels))
        return levels

    def anchor_tables(self) -> list[Float[Tensor, "A 4"]]:
        """Return the anchors of each level's first cell, from the checkpoint."""
        return list(self.get_submodule("rpn.anchor_generator.cell_anchors").buffers())


def levels_of(boxes: Float[Tensor, "M 4"], scales: Sequence[float]) -> Tensor:
    """Return the level of the pyramid from which each box is pooled.

    Source:
        Feature Pyramid Networks (arXiv:1612.03144), equation 1, with the area of boxes whose last
        pixel is inside.
    """
    sides = ((boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)).sqrt()
    lowest, highest = (-torch.tensor(scale).log2() for scale in (scales[0], scales[-1]))
    levels = torch.floor(4 + torch.log2(sides / 224 + 1e-6))
    return (levels.clamp(float(lowest), float(highest)) - float(lowest)).long()
