"""Grid features from a Detectron2 network with a ResNet backbone.

Shapes: N: images; h, w: height and width of the resized images.
"""

from __future__ import annotations

from collections.abc import Sequence

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.backbone import ResNet
from jaxtyping import Int32, UInt8

from vlray.config.detector import DetectorSection
from vlray.detect.d2.features import normalized
from vlray.detect.grid import grid_regions
from vlray.regions.batch import RegionBatch


@torch.inference_mode()
def grid_of(
    model: GeneralizedRCNN,
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    image_hw: Int32[np.ndarray, "N 2"],
    options: DetectorSection,
) -> RegionBatch:
    """Compute grid features: the cells of one of the ResNet's feature maps.

    In C4 networks, res5 belongs to the RoI heads; here it runs over the whole image.

    Args:
        model: A network in evaluation mode, whose configuration passed ``check_grid``.
        images: Resized images of one size, with channels in the network's order.
        image_hw: Height and width of the original images, in pixels.
        options: ``grid_layer`` and ``grid_size``.

    Raises:
        ValueError: The images differ in size.

    Source:
        In Defense of Grid Features (arXiv:2001.03615).
    """
    pixels, (height, width) = normalized(model, images)
    resnet = _resnet_of(model)
    # The padding for a feature pyramid is cut off, so that cells cover only the image.
    maps = resnet.stem(pixels.tensor[..., :height, :width])
    for name, stage in zip(resnet.stage_names, resnet.stages, strict=True):
        maps = stage(maps)
        if name == "res4" and options.grid_layer == "c4":
            break
    else:  # no break: the grid layer is res5
        if "res5" not in resnet.stage_names:
            maps = model.roi_heads.res5(maps)
    return grid_regions(maps, image_hw, options.grid_size)


def grid_dim_of(model: GeneralizedRCNN, options: DetectorSection) -> int:
    """Return the length of a cell's vector."""
    resnet = _resnet_of(model)
    stages = dict(zip(resnet.stage_names, resnet.stages, strict=True))
    if options.grid_layer == "c4":
        return int(stages["res4"][-1].out_channels)
    last = stages["res5"] if "res5" in stages else model.roi_heads.res5  # noqa: SIM401 - no default
    return int(last[-1].out_channels)


def _resnet_of(model: GeneralizedRCNN) -> ResNet:
    """Return the backbone's ResNet, which may be below a feature pyramid."""
    resnet = getattr(model.backbone, "bottom_up", model.backbone)
    assert isinstance(resnet, ResNet), type(resnet)  # check_grid refused all others
    return resnet
