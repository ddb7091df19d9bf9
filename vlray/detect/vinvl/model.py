"""Network of VinVL's detector, built from Detectron2's blocks.

Shapes: N: images; h, w: height and width of the images; H, W: height and width of the C4 map
(stride 16); M: anchors of the map; R: regions of one image; D: feature length.
"""

from __future__ import annotations

from collections.abc import Mapping

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import torch
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock
from detectron2.modeling.proposal_generator.rpn import StandardRPNHead
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torchvision.ops import roi_align

from vlray.cluster.tf32 import tf32
from vlray.detect.vinvl.layout import ANCHORS, Layout
from vlray.detect.visual_genome.model import DTYPES

STRIDE = 16
POOL_SIZE = 14
CHUNK = 50  # maximum number of regions in one pass through res5


class VinvlPredictor(nn.Module):
    """Prediction heads: classes (the background first) and, if there are any, attributes."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.cls_score = nn.Linear(layout.feature_dim, layout.objects + 1)
        if layout.attributes:
            inputs = layout.feature_dim + layout.embedding
            self.cls_embedding = nn.Embedding(layout.objects + 1, layout.embedding)
            self.fc_attr = nn.Linear(inputs, layout.hidden)
            self.attr_score = nn.Linear(layout.hidden, layout.attributes + 1)

    def attributes(
        self, visual_feats: Float[Tensor, "R D"], obj_ids: Int64[Tensor, " R"]
    ) -> Float[Tensor, "R A+1"]:
        """Compute attribute logits, "no attribute" first, for regions of the given classes."""
        embedded = self.cls_embedding(obj_ids + 1)  # row 0 is the background's
        hidden = self.fc_attr(torch.cat([visual_feats, embedded], dim=1)).relu()
        logits: Tensor = self.attr_score(hidden)
        return logits


class VinvlNetwork(nn.Module):
    """ResNeXt C4 whose res5 runs at stride 2 over each pooled region."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.precision = "fp32"
        channels, stages = layout.stem, {}
        for index, blocks in enumerate(layout.blocks):
            stages[f"res{index + 2}"] = _stage(layout, index, blocks, channels)
            channels = layout.channels << index
        res5 = stages.pop("res5")
        self.backbone = nn.ModuleDict({"stem": BasicStem(3, layout.stem, norm=""), **stages})
        head = StandardRPNHead(in_channels=layout.c4_dim, num_anchors=ANCHORS, conv_dims=[-1])
        self.proposal_generator = nn.ModuleDict({"rpn_head": head})
        predictor = VinvlPredictor(layout)
        self.roi_heads = nn.ModuleDict({"res5": res5, "box_predictor": predictor})
        for module in self.modules():  # their norms are folded into a weight and a bias
            if isinstance(module, nn.Conv2d) and module.bias is None:
                module.bias = nn.Parameter(torch.empty(module.out_channels))

    @property
    def predictor(self) -> VinvlPredictor:
        """Prediction heads, always in float32."""
        predictor = self.roi_heads["box_predictor"]
        assert isinstance(predictor, VinvlPredictor)
        return predictor

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.predictor.cls_score.weight.device

    def c4(self, images: Float[Tensor, "N 3 h w"]) -> Float[Tensor, "N C H W"]:
        """Compute the feature map of stride 16 from images whose mean is already subtracted."""
        x = images.to(memory_format=torch.channels_last)
        for part in self.backbone.values():
            x = part(x)
        return x

    def objectness(
        self, c4: Float[Tensor, "N C H W"]
    ) -> tuple[Float[Tensor, "N M"], Float[Tensor, "N M 4"]]:
        """Compute objectness logits and box deltas for the M = H * W * 15 anchors, row by row."""
        (logits,), (deltas,) = self.proposal_generator["rpn_head"]([c4])
        num_images, _, height, width = logits.shape
        deltas = deltas.view(num_images, ANCHORS, 4, height, width).permute(0, 3, 4, 1, 2)
        return (
            logits.permute(0, 2, 3, 1).reshape(num_images, -1),
            deltas.reshape(num_images, -1, 4),
        )

    def res5(self, cells: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D h w"]:
        """Run the last stage over pooled regions or a whole map, in ``self.precision``."""
        cells = cells.to(DTYPES[self.precision], memory_format=torch.channels_last)
        with tf32(self.precision == "tf32"):
            out: Tensor = self.roi_heads["res5"](cells)
        return out

    def pool(
        self, c4: Float[Tensor, "1 C H W"], boxes: Float[Tensor, "R 4"]
    ) -> Float[Tensor, "R D"]:
        """Pool one image's boxes, in resized pixels, into the input vectors of the heads."""
        plane, vectors = c4.contiguous(), [boxes.new_zeros(0, self.layout.feature_dim)]
        for chunk in torch.split(boxes, CHUNK):
            cells = roi_align(plane, [chunk], POOL_SIZE, 1 / STRIDE)
            vectors.append(self.res5(cells).mean(dim=(2, 3), dtype=torch.float32))
        return torch.cat(vectors)


def build_vinvl(
    tensors: Mapping[str, Tensor],
    layout: Layout,
    precision: str,
    device: torch.device | str = "cpu",
) -> VinvlNetwork:
    """Build the network for inference from converted weights.

    Args:
        tensors: All tensors of the network and no others.
        layout: The network's sizes.
        precision: Precision of res5: ``fp32``, ``tf32``, ``bf16`` or ``fp16``. The backbone and the
            proposals stay in float32, so that precision does not change the boxes.
        device: Device of the network.
    """
    # On the meta device nothing is initialized, as all tensors are overwritten anyway.
    with torch.device("meta"):
        network = VinvlNetwork(layout)
    network.load_state_dict(dict(tensors), strict=True, assign=True)
    network.precision = precision
    network.to(device)
    network.roi_heads["res5"].to(DTYPES[precision])
    network.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return network


def _stage(layout: Layout, index: int, blocks: int, channels: int) -> nn.Sequential:
    """Build a stage's blocks; in a ResNeXt, the first 3x3 convolution has the stride."""
    out, width = layout.channels << index, layout.width << index
    return nn.Sequential(
        *(
            BottleneckBlock(
                channels if block == 0 else out,
                out,
                bottleneck_channels=width,
                stride=2 if index and block == 0 else 1,
                num_groups=layout.groups,
                norm="",
                stride_in_1x1=False,
            )
            for block in range(blocks)
        )
    )
