"""Grid features of ``lite``: the maps of its backbone over the whole image.

Shapes: N: images; h, w: height and width of the resized images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN
from jaxtyping import Int32, UInt8
from torch.nn.functional import adaptive_avg_pool2d

from vlray.config.detector import DetectorSection
from vlray.detect.d2.features import normalized
from vlray.detect.grid import grid_regions
from vlray.detect.lite.model import SEMANTIC_CHANNELS, STAGE_CHANNELS, STAGES
from vlray.regions.batch import RegionBatch

MAPS: Mapping[str, tuple[str, ...]] = {
    "c4": ("stage16",),
    "res5": ("semantic",),
    "stages": ("stage32", "semantic", "stage16"),
}
"""Maps of the backbone that each ``grid_layer`` consists of, by the names of its outputs."""

CHANNELS = dict(zip(STAGES, STAGE_CHANNELS, strict=True)) | {"semantic": SEMANTIC_CHANNELS}


@torch.inference_mode()
def grid_of(
    model: GeneralizedRCNN,
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    image_hw: Int32[np.ndarray, "N 2"],
    options: DetectorSection,
) -> RegionBatch:
    """Compute the cells of one map, or of several maps behind one another.

    Args:
        model: ``lite``'s network in evaluation mode.
        images: Resized images of one size.
        image_hw: Height and width of the original images, in pixels.
        options: ``grid_layer`` and ``grid_size``. Without a size, several maps are averaged to the
            cells of the coarsest one.

    Raises:
        ValueError: The images differ in size.
    """
    pixels, (height, width) = normalized(model, images)
    # Padding, which only the feature pyramid needs, is cut off: cells cover only the image.
    maps = model.backbone.stages_of(pixels.tensor[..., :height, :width])
    chosen = [maps[name].float() for name in MAPS[options.grid_layer]]
    size = options.grid_size or tuple(chosen[0].shape[-2:])
    joined = torch.cat([adaptive_avg_pool2d(one, size) for one in chosen], dim=1)
    return grid_regions(joined, image_hw, options.grid_size)


def grid_dim(layer: str) -> int:
    """Return the length of a cell's vector."""
    return sum(CHANNELS[name] for name in MAPS[layer])
