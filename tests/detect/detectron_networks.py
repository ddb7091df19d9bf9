"""Small Detectron2 networks of every kind, written as a user has them: a YAML file and weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import torch
import yaml
from detectron2.config import get_cfg
from detectron2.modeling import build_model

from vlray.config.detector import DetectorSection

# Real networks, thin ones: the layers are those of the published configurations.
BASE: dict[str, Any] = {
    "VERSION": 2,
    "INPUT": {"MIN_SIZE_TEST": 128, "MAX_SIZE_TEST": 170},
    "DATASETS": {"TEST": ["coco_2017_val"]},
    "MODEL": {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "MASK_ON": True,
        "RESNETS": {
            "DEPTH": 50,
            "STEM_OUT_CHANNELS": 8,
            "RES2_OUT_CHANNELS": 16,
            "WIDTH_PER_GROUP": 8,
        },
        "RPN": {"PRE_NMS_TOPK_TEST": 300, "POST_NMS_TOPK_TEST": 60},
        "ROI_BOX_HEAD": {"FC_DIM": 48, "POOLER_SAMPLING_RATIO": 0},
    },
}
C4 = {"RPN": {"PRE_NMS_TOPK_TEST": 200, "POST_NMS_TOPK_TEST": 40}}
DC5 = {
    "RESNETS": {"OUT_FEATURES": ["res5"], "RES5_DILATION": 2},
    "RPN": {"IN_FEATURES": ["res5"]},
    "ROI_HEADS": {"NAME": "StandardROIHeads", "IN_FEATURES": ["res5"]},
    "ROI_BOX_HEAD": {"NAME": "FastRCNNConvFCHead", "NUM_FC": 2, "POOLER_RESOLUTION": 7},
}
FPN = {
    "BACKBONE": {"NAME": "build_resnet_fpn_backbone"},
    "RESNETS": {"OUT_FEATURES": ["res2", "res3", "res4", "res5"]},
    "FPN": {"IN_FEATURES": ["res2", "res3", "res4", "res5"], "OUT_CHANNELS": 16},
    "ANCHOR_GENERATOR": {
        "SIZES": [[32], [64], [128], [256], [512]],
        "ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    },
    "RPN": {"IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"]},
    "ROI_HEADS": {"NAME": "StandardROIHeads", "IN_FEATURES": ["p2", "p3", "p4", "p5"]},
    "ROI_BOX_HEAD": {"NAME": "FastRCNNConvFCHead", "NUM_FC": 2, "POOLER_RESOLUTION": 7},
}
CASCADE = FPN | {
    "MASK_ON": False,
    "ROI_HEADS": FPN["ROI_HEADS"] | {"NAME": "CascadeROIHeads"},
    "ROI_BOX_HEAD": FPN["ROI_BOX_HEAD"] | {"CLS_AGNOSTIC_BBOX_REG": True},
}
CONV_HEAD = FPN | {
    "ROI_BOX_HEAD": FPN["ROI_BOX_HEAD"]
    | {"NUM_FC": 0, "NUM_CONV": 1, "CONV_DIM": 8, "CLS_AGNOSTIC_BBOX_REG": True},
    "ROI_HEADS": FPN["ROI_HEADS"] | {"NUM_CLASSES": 5},
}
KINDS: dict[str, dict[str, Any]] = {
    "C4": C4,
    "DC5": DC5,
    "FPN": FPN,
    "cascade": CASCADE,
    "conv_head": CONV_HEAD,
}
FEATURE_DIMS = {"C4": 128, "DC5": 48, "FPN": 48, "cascade": 48, "conv_head": 8 * 7 * 7}


@dataclass(frozen=True)
class Network:
    """A configuration with its weights, as files."""

    config: Path
    weights: Path

    def options(self, **values: Any) -> DetectorSection:
        return DetectorSection.model_validate(
            {"name": str(self.config), "weights": str(self.weights), "device": "cpu", **values}
        )


def write_network(folder: Path, kind: str, **values: Any) -> Network:
    """Write a network's files: the configuration in two parts, one based on the other."""
    (folder / "Base.yaml").write_text(yaml.safe_dump(BASE))
    config = folder / f"{kind}.yaml"
    top = {"_BASE_": "Base.yaml", "MODEL": KINDS[kind], **values}
    config.write_text(yaml.safe_dump(top))
    torch.save({"model": random_weights(config)}, folder / "model.pth")
    return Network(config, folder / "model.pth")


def random_weights(config: Path) -> dict[str, Any]:
    """Give weights that find boxes of all classes, with scores from 0 to 1."""
    cfg = get_cfg()
    cfg.merge_from_file(str(config))
    cfg.MODEL.DEVICE = "cpu"
    torch.manual_seed(0)
    model = build_model(cfg)
    for name, value in model.state_dict().items():
        if name.endswith("conv3.weight"):  # else 16 residual blocks add up to infinity
            value *= 0.3
        elif "objectness_logits.weight" in name or "anchor_deltas.weight" in name:
            value *= 3
        elif name.endswith(("cls_score.weight", "bbox_pred.weight")):
            spread = 4.0 if "cls_score" in name else 0.1
            value.copy_(torch.randn_like(value) * spread / value.shape[1] ** 0.5)
    weights = dict(model.state_dict())
    for name, value in weights.items():  # the stages of a cascade should mostly agree
        first = re.sub(r"(box_head|box_predictor)\.\d\.", r"\1.0.", name)
        if first != name:
            value.copy_(weights[first] + 0.01 * torch.randn_like(value))
    return weights
