"""Load the weights of VinVL's detector as they were published, and convert them once."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vlray.detect.d2.checkpoint import read_tensors
from vlray.detect.vinvl.layout import (
    ANCHOR_SCALES,
    Layout,
    canonical_name,
    canonical_shapes,
    check_names,
    convolutions,
    layout_of,
    published_shapes,
)
from vlray.detect.visual_genome.shapes import caffe_anchors
from vlray.detect.weights.files import cache_folder, locate, sha256
from vlray.detect.weights.finite import check_finite
from vlray.detect.weights.headers import read_header
from vlray.storage.locks import build_once

logger = logging.getLogger(__name__)

FORMAT = "vlray-vinvl-1"
"""Part of the name of converted weights; increase the number when their form changes."""

_ANCHORS = "rpn.anchor_generator.cell_anchors.0"
_BOX_DELTAS = "roi_heads.box.predictor.bbox_pred."  # not used: boxes are the pooled proposals
_HEAD = "roi_heads.box.feature_extractor."
_SHARED_HEAD = "attribute.feature_extractor."  # the same module as _HEAD, stored twice


@dataclass(frozen=True)
class VinvlCheckpoint:
    """Converted weights of a network of VinVL's family.

    Attributes:
        tensors: Float32 tensors with the names and shapes of ``layout.canonical_shapes``.
        layout: The network's sizes.
        sha256: SHA-256 of the published file.
    """

    tensors: dict[str, Tensor]
    layout: Layout
    sha256: str


def load_vinvl(weights: str) -> VinvlCheckpoint:
    """Load published weights. Converted ones are stored in the user's cache, for later processes.

    Args:
        weights: A local file, a URL or a name on the Hugging Face Hub (see ``locate``).

    Raises:
        ValueError: The weights cannot be found or downloaded, require code to be run, or are not
            the complete weights of such a network, or not finite; the message lists the
            differences.
    """
    path = locate(weights)
    digest = sha256(path)
    cached = converted_path(digest)
    try:
        build_once(cached, lambda temporary: _convert_to(temporary, path))
    except OSError as error:  # a full or read-only disk is not fatal
        logger.warning(
            "converted weights cannot be cached, so every run converts %s again: %s", path, error
        )
        tensors, layout = _converted(path)
    else:
        tensors, layout = _read_converted(cached)
    check_finite(tensors, path)
    return VinvlCheckpoint(tensors, layout, digest)


def layout_of_weights(weights: str) -> Layout:
    """Return the sizes of a network from its weights, which are converted if they are new.

    Raises:
        ValueError: See ``load_vinvl``.
    """
    cached = converted_path(sha256(locate(weights)))
    sizes = read_header(cached)[0].get("layout") if cached.is_file() else None
    return _layout(sizes) if sizes else load_vinvl(weights).layout


def converted_path(digest: str) -> Path:
    """Return the cache path for converted weights, which may not exist yet.

    Args:
        digest: SHA-256 of the published file.
    """
    return cache_folder() / "converted" / f"{FORMAT}-{digest}.safetensors"


def _convert_to(target: Path, path: Path) -> None:
    tensors, layout = _converted(path)
    check_finite(tensors, path)
    save_file(tensors, target, {"format": FORMAT, "layout": json.dumps(asdict(layout))})
    logger.info("converted %s for later runs", path)


def _converted(path: Path) -> tuple[dict[str, Tensor], Layout]:
    """Read a published file, check it completely, and fold the norms into the convolutions."""
    tensors = {
        re.sub(r"^(module\.)+", "", name): torch.as_tensor(np.asarray(value)).float()
        for name, value in read_tensors(path).items()
    }
    tensors = _without_copies(tensors, str(path))
    shapes = _shapes(tensors)
    layout = layout_of(shapes, str(path))
    check_names(shapes, published_shapes(layout), str(path))
    return _folded(tensors, layout), layout


def _read_converted(path: Path) -> tuple[dict[str, Tensor], Layout]:
    """Read a file that ``_convert_to`` wrote.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        layout = _layout(read_header(path)[0]["layout"])
        tensors = load_file(path)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error!r}; remove it") from error
    check_names(_shapes(tensors), canonical_shapes(layout), str(path))
    return tensors, layout


def _layout(text: str) -> Layout:
    sizes = json.loads(text)
    return Layout(**(sizes | {"blocks": tuple(sizes["blocks"])}))


def _folded(tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Fold each frozen batch norm, which has no epsilon, into its convolution, in float64."""
    converted, norms = {}, set()
    for name, norm, _ in convolutions(layout):
        weight, bias, mean, var = (
            tensors[f"{norm}.{part}"].double()
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight * var.rsqrt()
        folded = tensors[f"{name}.weight"].double() * scale.view(-1, 1, 1, 1)
        converted[f"{canonical_name(name)}.weight"] = folded.float()
        converted[f"{canonical_name(name)}.bias"] = (bias - mean * scale).float()
        norms |= {f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")}
    for name, value in tensors.items():
        if name not in norms and canonical_name(name) not in converted:
            converted[canonical_name(name)] = value.contiguous()
    return converted


def _without_copies(tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Check and drop what the network does not need: anchors, box deltas, the head's copy.

    Raises:
        ValueError: The anchors are not VinVL's, or the attribute head pools with other weights.
    """
    kept = {}
    for name, value in tensors.items():
        original = _HEAD + name[len(_SHARED_HEAD) :]
        if name == _ANCHORS:
            expected = torch.tensor(caffe_anchors(ANCHOR_SCALES))
            if value.shape != expected.shape or not torch.allclose(value, expected, atol=1e-2):
                raise ValueError(
                    f"{source}: its anchors {name} are not those of VinVL's X152-C4, so this "
                    "network would predict wrong boxes; use vinvl_vg_x152c4.pth"
                )
        elif name.startswith(_SHARED_HEAD) and original in tensors:
            if not torch.equal(value, tensors[original]):
                raise ValueError(
                    f"{source}: {name} differs from {original}, but VinVL's attribute head shares "
                    "the features of the box head; use vinvl_vg_x152c4.pth"
                )
        elif not name.startswith(_BOX_DELTAS) and not name.endswith("num_batches_tracked"):
            kept[name] = value
    return kept


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors.items()}
