"""Residual blocks for CPUs, in which convolutions also add the shortcut and apply the ReLU.

Eager PyTorch writes a convolution's result to memory, reads it to add the shortcut, and reads it
again for the ReLU. It also reorders the weights for the kernel in every call. oneDNN's fused
operators do all of this in one pass, with weights that are reordered only once. ``torch.compile``
calls the same operators, but no compiler is needed here.

Shapes: N: images; C, K: input and output channels; H, W: height and width of the input; h, w:
height and width of the output.
"""

from __future__ import annotations

from typing import Any

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import torch
from detectron2.modeling.backbone.resnet import BottleneckBlock
from jaxtyping import Float
from torch import Tensor, nn

from vlray.detect.visual_genome.cpu.winograd import WinogradMapConv

WINOGRAD_FROM = 256
"""Smallest number of channels for Winograd; below it, copying tiles costs more than it saves."""


def can_fuse(dtype: torch.dtype) -> bool:
    """Return whether this processor and PyTorch support fused convolutions for a data type."""
    ops = torch.ops.mkldnn
    if not hasattr(ops, "_convolution_pointwise"):  # built without oneDNN
        return False
    if dtype == torch.bfloat16:
        return bool(ops._is_mkldnn_bf16_supported())
    return dtype == torch.float32 or bool(ops._is_mkldnn_fp16_supported())


class FusedConv(nn.Module):
    """Convolution with bias and an optional ReLU; its weights are stored in the kernel's order.

    Args:
        conv: The convolution to replace.
        relu: Whether a ReLU follows it.
        images: Usual batch size of the input, for which the order of the weights is chosen.
        height: Usual height of the input.
        width: Usual width of the input.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, relu: bool, images: int, height: int, width: int) -> None:
        super().__init__()
        assert conv.bias is not None
        self._geometry = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        self._after = "relu" if relu else "none"
        weight = conv.weight.detach().contiguous()
        ordered = torch.ops.mkldnn._reorder_convolution_weight(
            weight, *self._geometry, [images, conv.in_channels, height, width]
        )
        self.register_buffer("weight", ordered)
        self.register_buffer("bias", conv.bias.detach())

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N K h w"]:
        """Convolve, and apply the ReLU if there is one."""
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, *self._geometry, self._after, [], ""
        )
        return out

    def onto(
        self, x: Float[Tensor, "N C H W"], shortcut: Float[Tensor, "N K h w"]
    ) -> Float[Tensor, "N K h w"]:
        """Convolve, add the result to ``shortcut`` in place, and apply a ReLU."""
        out: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
            shortcut, x, self.weight, self.bias, *self._geometry, "add", 1.0, "relu", [], ""
        )
        return out


class FusedBlock(nn.Module):
    """Bottleneck block with folded norms; it may overwrite its input."""

    def __init__(self, block: BottleneckBlock, images: int, height: int, width: int) -> None:
        super().__init__()
        size = images, height, width
        (step, _) = block.conv1.stride
        inner = images, -(-height // step), -(-width // step)
        self.conv1 = FusedConv(block.conv1, True, *size)
        self.conv2 = (
            WinogradMapConv(block.conv2)
            if block.conv2.in_channels >= WINOGRAD_FROM
            else FusedConv(block.conv2, True, *inner)
        )
        self.conv3 = FusedConv(block.conv3, False, *inner)
        shortcut = block.shortcut
        self.shortcut = None if shortcut is None else FusedConv(shortcut, False, *size)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N K h w"]:
        """Compute the block's output; ``x`` may be overwritten."""
        hidden = self.conv2(self.conv1(x))
        return self.conv3.onto(hidden, x if self.shortcut is None else self.shortcut(x))


def fuse_blocks(stage: nn.Module, images: int, height: int, width: int) -> None:
    """Replace a stage's blocks with fused ones.

    Args:
        stage: ``Sequential`` of ``BottleneckBlock`` with folded norms.
        images: Usual batch size of the input. The order of the weights is chosen for the usual
            size; other sizes give the same result, more slowly.
        height: Usual height of the input.
        width: Usual width of the input.
    """
    assert isinstance(stage, nn.Sequential)
    for index in range(len(stage)):
        block: Any = stage[index]
        stage[index] = FusedBlock(block, images, height, width)
        (step, _) = block.conv1.stride
        height, width = -(-height // step), -(-width // step)
