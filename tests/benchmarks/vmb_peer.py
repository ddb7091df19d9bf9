"""Runs the own code of vqa-maskrcnn-benchmark and of MMF's extraction, beside which ``vmb`` is
compared. What is replaced from the outside is in ``REPLACED``.
"""

from __future__ import annotations

import ast
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

REPLACED = (
    "its compiled extension (NMS by nms_cpu.cpp's loop in Python, RoIAlign by torchvision's with "
    "aligned=False), np.float, torch._six"
)
Regions = dict[str, np.ndarray]


class Peer:
    """MMF's ``FeatureExtractor`` on its network, for one image at a time."""

    def __init__(self, code: Path, config: Path, blocks: dict[str, tuple[int, ...]]) -> None:
        """Build the network of a configuration, without weights.

        Args:
            code: Folder with vqa-maskrcnn-benchmark-m4c/ and mmf/.
            config: The YAML file.
            blocks: Numbers of blocks of bodies that this copy does not know (R-152-FPN).
        """
        _import(code)
        from maskrcnn_benchmark.config import cfg as defaults
        from maskrcnn_benchmark.modeling import registry
        from maskrcnn_benchmark.modeling.backbone import backbone, resnet
        from maskrcnn_benchmark.modeling.detector import build_detection_model

        for name, counts in blocks.items():
            stages = tuple(
                resnet.StageSpec(index=index, block_count=count, return_features=True)
                for index, count in enumerate(counts, 1)
            )
            dict.__setitem__(resnet._STAGE_SPECS, name, stages)
            dict.__setitem__(registry.BACKBONES, name, backbone.build_resnet_fpn_backbone)
        cfg = defaults.clone()
        cfg.merge_from_file(str(config))
        self.model: Any = build_detection_model(cfg).eval()
        self._extractor = _extractor(code)

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Load a checkpoint's tensors as the extraction does."""
        from maskrcnn_benchmark.utils.model_serialization import load_state_dict

        load_state_dict(self.model, dict(tensors))

    @torch.no_grad()
    def __call__(self, path: Path, feature: str = "fc6", boxes: int = 100) -> Regions:
        """Extract a photograph's regions; those of confidence 0 are padding and left out."""
        from maskrcnn_benchmark.structures.image_list import to_image_list

        extractor = self._extractor
        extractor.args = types.SimpleNamespace(num_features=boxes, background=False)
        pixels, scale, info = extractor._image_transform(str(path))
        output = self.model(to_image_list([pixels], size_divisible=32))
        feats, infos = extractor._process_feature_extraction(output, [scale], [info], feature)
        count = infos[0]["num_boxes"]
        width, height = infos[0]["image_width"], infos[0]["image_height"]
        return {
            # vlray's boxes end at the image; the peer's may reach into the padding.
            "boxes": np.clip(infos[0]["bbox"], 0, [width, height, width, height])[:count],
            "obj_ids": infos[0]["objects"][:count],
            "obj_probs": infos[0]["cls_prob"].max(axis=1)[:count],
            "visual_feats": feats[0].numpy()[:count],
        }


def _import(code: Path) -> None:
    """Make the peer's package importable."""
    extension: Any = types.ModuleType("maskrcnn_benchmark._C")
    extension.nms, extension.roi_align_forward = nms, roi_align
    for name in ("roi_align_backward", "roi_pool_forward", "roi_pool_backward"):
        setattr(extension, name, None)
    sys.modules.setdefault("maskrcnn_benchmark._C", extension)
    six: Any = types.ModuleType("torch._six")
    six.PY3 = True
    sys.modules.setdefault("torch._six", six)
    torch._six = sys.modules["torch._six"]  # type: ignore[attr-defined]
    vars(np).setdefault("float", float)
    warnings.simplefilter("ignore")  # of code of 2019 and today's libraries
    folder = str(code / "vqa-maskrcnn-benchmark-m4c")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    import maskrcnn_benchmark

    maskrcnn_benchmark._C = sys.modules["maskrcnn_benchmark._C"]


def _extractor(code: Path) -> Any:
    """Compile the class of MMF's script, without the imports that it needs elsewhere."""
    file = code / "mmf" / "tools" / "scripts" / "features" / "extract_features_vmb.py"
    tree = ast.parse(file.read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    scope: dict[str, Any] = {"np": np, "torch": torch, "cv2": cv2, "Image": Image, "nms": nms}
    exec(compile(tree, str(file), "exec"), scope)
    cls = scope["FeatureExtractor"]
    return cls.__new__(cls)


def nms(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Suppress as csrc/cpu/nms_cpu.cpp: sides plus one, ``>=``; returns indices in their order."""
    x1, y1, x2, y2 = boxes.numpy().T
    areas = (x2 - x1 + 1) * (y2 - y1 + 1)
    order = np.argsort(-scores.numpy(), kind="stable")
    suppressed = np.zeros(len(boxes), bool)
    zero = np.float32(0)
    for rank, i in enumerate(order):
        if suppressed[i]:
            continue
        rest = order[rank + 1 :]
        rest = rest[~suppressed[rest]]
        w = np.maximum(zero, np.minimum(x2[i], x2[rest]) - np.maximum(x1[i], x1[rest]) + 1)
        h = np.maximum(zero, np.minimum(y2[i], y2[rest]) - np.maximum(y1[i], y1[rest]) + 1)
        inter = w * h
        suppressed[rest[inter / (areas[i] + areas[rest] - inter) >= threshold]] = True
    return torch.from_numpy(np.flatnonzero(~suppressed))


def roi_align(
    maps: Tensor, rois: Tensor, scale: float, height: int, width: int, sampling: int
) -> Tensor:
    """Pool as csrc/cpu/ROIAlign_cpu.cpp."""
    from torchvision.ops import roi_align

    return roi_align(maps, rois, (height, width), scale, sampling, aligned=False)
