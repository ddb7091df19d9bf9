"""Load maskrcnn-benchmark's checkpoints, without running any code in them."""

from __future__ import annotations

from pathlib import Path

import torch

from vlray.detect.d2.checkpoint import read_tensors
from vlray.detect.vmb.anchors import cell_anchors
from vlray.detect.vmb.config import Layout
from vlray.detect.vmb.network import VmbNetwork
from vlray.detect.weights.differences import refuse_differences
from vlray.detect.weights.finite import check_finite

_UNUSED = (
    *("roi_heads.mask.", "roi_heads.keypoint."),
    *("roi_heads.box.predictor.cls_embed.", "roi_heads.box.predictor.attr_linear"),
)
"""Tensors that features do not need: other heads, and the attribute head, which MMF never runs."""


def load_vmb(layout: Layout, path: Path) -> VmbNetwork:
    """Build a network in evaluation mode and load its weights.

    Args:
        layout: The configuration that belongs to the weights.
        path: A checkpoint, with or without DataParallel's prefix ``module.``.

    Raises:
        ValueError: The file is damaged, does not fit the configuration, or has NaN or infinite
            values.
    """
    tensors = {
        name.removeprefix("module."): torch.as_tensor(value)
        for name, value in read_tensors(path).items()
    }
    tensors = {name: value for name, value in tensors.items() if not name.startswith(_UNUSED)}
    # The anchors follow from the configuration if an older checkpoint lacks them.
    for level, table in enumerate(cell_anchors(layout)):
        tensors.setdefault(f"rpn.anchor_generator.cell_anchors.{level}", table)
    with torch.device("meta"):  # the checkpoint has all values
        network = VmbNetwork(layout)
    expected = network.state_dict()
    refuse_differences(
        path,
        [
            f"{name} {tuple(tensors[name].shape)}, but the network has {tuple(value.shape)}"
            for name, value in expected.items()
            if name in tensors and tensors[name].shape != value.shape
        ],
        sorted(expected.keys() - tensors.keys()),
        sorted(tensors.keys() - expected.keys()),
        "Use the YAML file that belongs to the checkpoint (MODEL.RESNETS, MODEL.BACKBONE).",
    )
    network.load_state_dict(tensors, strict=True, assign=True)
    check_finite(network.state_dict(), path)
    return network.float().eval().requires_grad_(False)
