"""Runs the own code of grid-feats-vqa, on the Detectron2 that it was written for.

    python -m tests.benchmarks.grid_peer FOLDER CONFIG WEIGHTS PHOTOGRAPHS OUT grid|regions

``grid_parity`` starts it: in a process of its own, because its Detectron2 is another version of the
installed package. Nothing of vlray is imported here. What is replaced is in ``REPLACED``.
"""

from __future__ import annotations

import pickle
import sys
import time
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional

REPLACED = (
    "detectron2._C (RoIAlign by torchvision's, deformable convolution by bilinear samples and a "
    "matrix product), its data sets, fvcore.common.file_io, PIL.Image.LINEAR; regions: its modules "
    "are run as in its heads, which return no vectors, and vlray's rule selects from both"
)


def main() -> None:
    """Run the network on each photograph."""
    code, config, weights, photographs, out, mode = sys.argv[1:]
    warnings.simplefilter("ignore")  # of code of 2020 and today's libraries
    prepare(Path(code))
    cfg, model = network(config, weights, stride_32=mode == "grid")
    results = {}
    for path in Path(photographs).read_text().splitlines():
        began = time.perf_counter()
        with torch.no_grad():
            result = (grid if mode == "grid" else regions)(model, resized(cfg, path))
        results[path] = {name: value.numpy() for name, value in result.items()}
        results[path]["seconds"] = np.array(time.perf_counter() - began)
    Path(out).write_bytes(pickle.dumps(results))


def prepare(code: Path) -> None:
    """Make the packages importable."""
    extension: Any = types.ModuleType("detectron2._C")
    extension.roi_align_forward = roi_align
    sys.modules["detectron2._C"] = extension
    PIL.Image.LINEAR = PIL.Image.Resampling.BILINEAR  # type: ignore[attr-defined]
    file_io: Any = types.ModuleType("fvcore.common.file_io")
    from iopath.common.file_io import PathHandler, PathManager, file_lock

    file_io.PathManager, file_io.PathHandler = PathManager(), PathHandler
    file_io.file_lock = file_lock
    sys.modules.setdefault("fvcore.common.file_io", file_io)
    sys.path[:0] = [str(code / "detectron2"), str(code / "grid-feats-vqa")]
    import detectron2

    detectron2._C = extension
    from detectron2.layers import deform_conv

    deform_conv.deform_conv = deformable
    package = types.ModuleType("grid_feats")  # without its data sets
    package.__path__ = [str(code / "grid-feats-vqa" / "grid_feats")]
    sys.modules["grid_feats"] = package


def network(config: str, weights: str, *, stride_32: bool) -> tuple[Any, Any]:
    """Build the network of a configuration, and load all of its tensors."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model
    from grid_feats import roi_heads  # noqa: F401  registers its heads
    from grid_feats.config import add_attribute_config

    cfg = get_cfg()
    add_attribute_config(cfg)
    cfg.merge_from_file(config)
    cfg.MODEL.DEVICE = "cpu"
    if stride_32:  # as extract_grid_feature.py
        cfg.MODEL.RESNETS.RES5_DILATION = 1
    model = build_model(cfg).eval()
    tensors = torch.load(weights, weights_only=True)["model"]
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    names = [name for name in (*missing, *unexpected) if "pixel_" not in name]
    # Anchors are computed; later versions do not store them.
    assert not [name for name in names if "cell_anchors" not in name], names
    return cfg, model


def resized(cfg: Any, path: str) -> Tensor:
    """Read and resize a photograph as its data loader does."""
    from detectron2.data import transforms

    with PIL.Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))[:, :, ::-1]
    sizes = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    resize = transforms.ResizeShortestEdge([sizes[0], sizes[0]], sizes[1])
    image = resize.get_transform(pixels).apply_image(pixels)
    return torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))


def grid(model: Any, image: Tensor) -> dict[str, Tensor]:
    """Compute the map that extract_grid_feature.py saves."""
    images = model.preprocess_image([{"image": image}])
    features = model.backbone(images.tensor)
    return {"map": model.roi_heads.get_conv5_features(features)}


def regions(model: Any, image: Tensor) -> dict[str, Tensor]:
    """Run the box head on the proposals, and the attribute predictor on the best classes."""
    from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputs

    heads = model.roi_heads
    images = model.preprocess_image([{"image": image}])
    features = model.backbone(images.tensor)
    proposals, _ = model.proposal_generator(images, features, None)
    boxes = [p.proposal_boxes for p in proposals]
    maps = [features[name] for name in heads.in_features]
    if hasattr(heads, "_shared_roi_transform"):
        vectors = heads._shared_roi_transform(maps, boxes).mean(dim=[2, 3])
    else:
        vectors = heads.box_head(heads.box_pooler(maps, boxes))
    scores, deltas = heads.box_predictor(vectors)
    outputs = FastRCNNOutputs(heads.box_predictor.box2box_transform, scores, deltas, proposals, 0.0)
    probs = outputs.predict_probs()[0][:, :-1]
    attributes = heads.attribute_predictor(vectors, probs.argmax(dim=1)).softmax(dim=1)
    return {
        "boxes": outputs.predict_boxes()[0].view(len(vectors), -1, 4)[
            torch.arange(len(vectors)), probs.argmax(dim=1)
        ],
        "probs": probs,
        "visual_feats": vectors,
        "attr_ids": attributes.argmax(dim=1),
        "attr_probs": attributes.amax(dim=1),
        "hw": torch.tensor(image.shape[1:]),
    }


def roi_align(
    maps: Tensor, rois: Tensor, scale: float, height: int, width: int, sampling: int, aligned: bool
) -> Tensor:
    """Pool as the compiled operation."""
    from torchvision.ops import roi_align

    return roi_align(maps, rois, (height, width), scale, sampling, aligned)


def deformable(
    x: Tensor, offset: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any,
    groups: int = 1, deformable_groups: int = 1,
) -> Tensor:  # fmt: skip
    """Convolve at shifted positions, one kernel position after the other."""
    assert deformable_groups == 1
    rows, columns = offset.shape[2:]
    outputs, _, kernel_h, kernel_w = weight.shape
    y0 = torch.arange(rows)[:, None] * stride[0] - padding[0]
    x0 = torch.arange(columns)[None] * stride[1] - padding[1]
    size = x.new_tensor([x.shape[3] - 1, x.shape[2] - 1])
    result = x.new_zeros(len(x), outputs, rows, columns)
    for tap in range(kernel_h * kernel_w):
        down, right = divmod(tap, kernel_w)
        y = y0 + down * dilation[0] + offset[:, 2 * tap]
        across = x0 + right * dilation[1] + offset[:, 2 * tap + 1]
        positions = torch.stack([across, y], dim=-1) / size * 2 - 1
        samples = functional.grid_sample(x, positions, align_corners=True)
        result += functional.conv2d(samples, weight[:, :, down, right, None, None], groups=groups)
    return result


if __name__ == "__main__":
    main()
