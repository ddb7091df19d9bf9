"""The Visual Genome detector's network, built from Detectron2's modules, with fast inference.

Shapes: N: images; h, w: height and width of the images; H, W: height and width of the C4 map
(stride 16); R: regions of one image; M: regions of all images, or anchors of the map.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock, ResNet
from detectron2.modeling.proposal_generator.rpn import StandardRPNHead
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import roi_pool

from vlray.cluster.tf32 import tf32
from vlray.detect.visual_genome.cpu.kernels import PoolRes5, use_kernels
from vlray.detect.visual_genome.shapes import ANCHORS, ATTRIBUTES, C4_DIM, FEATURE_DIM, OBJECTS

logger = logging.getLogger(__name__)

STRIDE = 16
POOL_SIZE = 14
DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
CHUNK = {"cpu": 300, "cuda": 1200}
"""Maximum number of regions in one pass through res5; in float32 each takes about 6 MB."""

USUAL_HW = (800, 1072)  # a typical resized photograph, for which CPU kernels are prepared


class CaffeStem(BasicStem):  # type: ignore[misc] # Detectron2 is untyped
    """Stem with Caffe's pooling: no padding, and the last window may exceed the map."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the map of stride 4."""
        x = functional.relu_(self.conv1(x))
        return functional.max_pool2d(x, kernel_size=3, stride=2, padding=0, ceil_mode=True)


class VgPredictor(nn.Module):
    """Prediction heads: classes, box deltas and, if the weights have them, attributes."""

    def __init__(self, with_attributes: bool) -> None:
        super().__init__()
        self.with_attributes = with_attributes
        self.cls_score = nn.Linear(FEATURE_DIM, OBJECTS + 1)
        self.bbox_pred = nn.Linear(FEATURE_DIM, OBJECTS * 4)
        if with_attributes:
            self.cls_embedding = nn.Embedding(OBJECTS + 1, 256)
            self.fc_attr = nn.Linear(FEATURE_DIM + 256, 512)
            self.attr_score = nn.Linear(512, ATTRIBUTES + 1)

    def deltas(
        self, visual_feats: Float[Tensor, "R 2048"], obj_ids: Int64[Tensor, " R"]
    ) -> Float[Tensor, "R 4"]:
        """Compute each region's box deltas for the class in ``obj_ids`` only."""
        weight = self.bbox_pred.weight.view(OBJECTS, 4, FEATURE_DIM)[obj_ids]
        bias = self.bbox_pred.bias.view(OBJECTS, 4)[obj_ids]
        return torch.baddbmm(bias[:, :, None], weight, visual_feats[:, :, None]).squeeze(2)

    def attributes(
        self, visual_feats: Float[Tensor, "R 2048"], class_logits: Float[Tensor, "R 1601"]
    ) -> Float[Tensor, "R 401"]:
        """Compute attribute logits, which also depend on the best class (or the background)."""
        embedded = self.cls_embedding(class_logits.argmax(dim=1))
        hidden = self.fc_attr(torch.cat([visual_feats, embedded], dim=1)).relu()
        logits: Tensor = self.attr_score(hidden)
        return logits


class VgNetwork(nn.Module):
    """ResNet-101 C4 whose res5 runs at stride 1 and dilation 2 over each pooled region.

    Its tensors have the same names as in Detectron2 and in canonical checkpoints.
    """

    def __init__(self, with_attributes: bool) -> None:
        super().__init__()
        self.precision = "fp32"
        self.backbone_precision = "fp32"
        self.backbone: Any = _backbone()
        head = StandardRPNHead(in_channels=C4_DIM, num_anchors=ANCHORS, conv_dims=[512])
        self.proposal_generator = nn.ModuleDict({"rpn_head": head})
        self.roi_heads = nn.ModuleDict(
            {"res5": nn.Sequential(*_res5()), "box_predictor": VgPredictor(with_attributes)}
        )
        self.fast_res5: PoolRes5 | None = None

    @property
    def predictor(self) -> VgPredictor:
        """Prediction heads, always in float32."""
        predictor = self.roi_heads["box_predictor"]
        assert isinstance(predictor, VgPredictor)
        return predictor

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.predictor.cls_score.weight.device

    def c4(self, images: Float[Tensor, "N 3 h w"]) -> Float[Tensor, "N 1024 H W"]:
        """Compute the feature map of stride 16 from images whose mean is already subtracted."""
        images = images.to(DTYPES[self.backbone_precision], memory_format=torch.channels_last)
        with tf32(self.backbone_precision == "tf32"):
            maps: dict[str, Tensor] = self.backbone(images)
        return maps["res4"].float()

    def objectness(
        self, c4: Float[Tensor, "N 1024 H W"]
    ) -> tuple[Float[Tensor, "N M"], Float[Tensor, "N M 4"]]:
        """Compute objectness logits and box deltas for the M = H * W * 12 anchors, row by row."""
        (logits,), (deltas,) = self.proposal_generator["rpn_head"]([c4])
        num_images, _, height, width = logits.shape
        deltas = deltas.view(num_images, ANCHORS, 4, height, width).permute(0, 3, 4, 1, 2)
        return (
            logits.permute(0, 2, 3, 1).reshape(num_images, -1),
            deltas.reshape(num_images, -1, 4),
        )

    def res5(self, cells: Float[Tensor, "N 1024 H W"]) -> Float[Tensor, "N 2048 H W"]:
        """Run the last stage over pooled regions or a whole map, in ``self.precision``."""
        cells = cells.to(DTYPES[self.precision], memory_format=torch.channels_last)
        with tf32(self.precision == "tf32"):
            out: Tensor = self.roi_heads["res5"](cells)
        return out

    def pool(
        self, c4: Float[Tensor, "N 1024 H W"], boxes: Sequence[Float[Tensor, "R 4"]]
    ) -> Float[Tensor, "M 2048"]:
        """Pool the boxes of N images, in resized pixels, into the input vectors for the heads.

        The boxes of several images share a pass through res5.
        """
        if self.fast_res5 is not None:
            # Max pooling commutes with rounding, so the map can be rounded before it is pooled.
            maps = torch.split(c4.to(DTYPES[self.precision]), 1)
            pairs = zip(maps, boxes, strict=True)
            return torch.cat([self.fast_res5(*pair, POOL_SIZE, 1 / STRIDE) for pair in pairs])
        plane, vectors = c4.contiguous(), [c4.new_zeros(0, FEATURE_DIM)]
        numbered = [
            torch.cat([one.new_full((len(one), 1), number), one], dim=1)
            for number, one in enumerate(boxes)
        ]
        for chunk in torch.split(torch.cat(numbered), CHUNK[c4.device.type]):
            # In float32, because half precision would round the boxes, too. It is a small part of
            # the work, and max pooling commutes with the rounding that follows.
            cells = roi_pool(plane, chunk, POOL_SIZE, 1 / STRIDE)
            vectors.append(self.res5(cells).mean(dim=(2, 3), dtype=torch.float32))
        return torch.cat(vectors)


def build_vg(
    tensors: Mapping[str, Tensor],
    precision: str,
    device: torch.device | str = "cpu",
    backbone_precision: str = "fp32",
) -> VgNetwork:
    """Build the network for inference from canonical weights.

    Args:
        tensors: All tensors of the network and no others.
        precision: Precision of res5, which is most of the work: ``fp32``, ``tf32``, ``bf16`` or
            ``fp16``.
        device: Device of the network, which cannot be moved to another device later.
        backbone_precision: Precision of the backbone. In another one than ``fp32``, proposals with
            nearly equal scores swap places, and other regions are selected. The proposals are
            always computed in float32.
    """
    with_attributes = "roi_heads.box_predictor.attr_score.weight" in tensors
    # On the meta device nothing is initialized, as all tensors are overwritten anyway.
    with torch.device("meta"):
        network = VgNetwork(with_attributes)
    network.to_empty(device="cpu")
    network.load_state_dict(dict(tensors), strict=True)
    _fold_norms(network)
    network.precision, network.backbone_precision = precision, backbone_precision
    network.to(device)
    network.backbone.to(DTYPES[backbone_precision])
    res5 = network.roi_heads["res5"].to(DTYPES[precision])
    for part in (network.backbone, network.proposal_generator, res5):
        part.to(memory_format=torch.channels_last)
    network.eval().requires_grad_(False)
    is_fp32 = backbone_precision == "fp32"
    if network.device.type == "cpu":
        network.fast_res5 = use_kernels(
            network.backbone.stages if is_fp32 else [],
            network.proposal_generator["rpn_head"],
            network.roi_heads["res5"],
            # The input maps of res2, res3 and res4.
            [[side // stride for side in USUAL_HW] for stride in (4, 4, 8)] if is_fp32 else [],
            DTYPES[precision],
        )
        if network.fast_res5 is None:
            logger.warning(
                "this processor has no instructions for detector.precision=%s, so it is many times "
                "slower than fp32; use fp32 or a GPU",
                precision,
            )
    return network


def _backbone() -> ResNet:
    stages = []
    channels = 64
    for name, blocks, width, stride in (
        ("res2", 3, 64, 1),
        ("res3", 4, 128, 2),
        ("res4", 23, 256, 2),
    ):
        stage = _stage(blocks, channels, width, stride, dilation=1)
        channels = width * 4
        stages.append((name, stage))
    return ResNet(
        CaffeStem(3, 64, norm="FrozenBN"), [stage for _, stage in stages], out_features=["res4"]
    )


def _res5() -> list[BottleneckBlock]:
    return _stage(3, C4_DIM, 512, 1, dilation=2)


def _stage(
    blocks: int, channels: int, width: int, stride: int, dilation: int
) -> list[BottleneckBlock]:
    """Build a stage's blocks; as in MSRA's ResNet, the first 1x1 convolution has the stride.

    Args:
        blocks: Number of blocks.
        channels: Input channels.
        width: Bottleneck channels; the output has four times as many.
        stride: Stride of the first block.
        dilation: Dilation of the 3x3 convolutions.
    """
    return [
        BottleneckBlock(
            channels if index == 0 else width * 4,
            width * 4,
            bottleneck_channels=width,
            stride=stride if index == 0 else 1,
            norm="FrozenBN",
            stride_in_1x1=True,
            dilation=dilation,
        )
        for index in range(blocks)
    ]


def _fold_norms(network: nn.Module) -> None:
    """Fold each frozen batch norm into its convolution, in float64."""
    module: Any
    for module in network.modules():
        conv = module
        norm = getattr(conv, "norm", None)
        if not isinstance(conv, nn.Conv2d) or not isinstance(norm, FrozenBatchNorm2d):
            continue
        scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
        shift = norm.bias.double() - norm.running_mean.double() * scale
        weight = conv.weight.double() * scale.view(-1, 1, 1, 1)
        conv.weight = nn.Parameter(weight.float())
        conv.bias = nn.Parameter(shift.float())
        module.norm = None  # Detectron2's Conv2d then skips it
