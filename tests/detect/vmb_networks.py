"""A small network of maskrcnn-benchmark, written as a user has it: a YAML file and a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import numpy as np
import torch
import yaml

from tests.benchmarks.calibrated import calibrate
from vlray.config.detector import DetectorSection
from vlray.detect.vmb.config import read_layout
from vlray.detect.vmb.network import VmbNetwork
from vlray.detect.vmb.regions import VmbRegions
from vlray.images.resize import ResizeLikeCaffe

# The keys of the YAML file that travels with Pythia's X-101, with few channels.
CONFIG: dict[str, Any] = {
    "MODEL": {
        "META_ARCHITECTURE": "GeneralizedRCNN",
        "BACKBONE": {"CONV_BODY": "R-50-FPN", "OUT_CHANNELS": 8},
        "RESNETS": {
            **{"STRIDE_IN_1X1": False, "NUM_GROUPS": 2, "WIDTH_PER_GROUP": 4},
            **{"STEM_OUT_CHANNELS": 8, "RES2_OUT_CHANNELS": 16},
        },
        "RPN": {
            **{"USE_FPN": True, "ANCHOR_STRIDE": "(4, 8, 16, 32, 64)"},
            **{"PRE_NMS_TOP_N_TRAIN": 2000, "PRE_NMS_TOP_N_TEST": 100},
            **{"POST_NMS_TOP_N_TEST": 60, "FPN_POST_NMS_TOP_N_TEST": 150},
        },
        "ROI_HEADS": {"USE_FPN": True},
        "ROI_BOX_HEAD": {
            "POOLER_SCALES": "(0.25, 0.125, 0.0625, 0.03125)",
            **{"FEATURE_EXTRACTOR": "FPN2MLPFeatureExtractor", "PREDICTOR": "FPNPredictor"},
            **{"POOLER_RESOLUTION": 7, "POOLER_SAMPLING_RATIO": 2, "RETURN_FC_FEATS": True},
            **{"MLP_HEAD_DIM": 32, "NUM_CLASSES": 21, "ATTR": False},
        },
    },
    "DATASETS": {"TRAIN": '("visual_genome_train",)', "TEST": '("vqa_test",)'},
    "DATALOADER": {"NUM_WORKERS": 8},
}
SPREADS = {
    **{"rpn.head.cls_logits": 2.0, "rpn.head.bbox_pred": 0.3},
    **{f"fpn_layer{level}": 1.0 for level in (1, 2, 3, 4)},
    **{"fc6": 1.0, "fc7": 1.0, "predictor.cls_score": 4.0},
}
SIZES = {"min_size": 160, "max_size": 260}


@dataclass(frozen=True)
class Files:
    """A configuration with its checkpoint."""

    config: Path
    weights: Path

    def options(self, **values: Any) -> DetectorSection:
        return DetectorSection.model_validate(
            {"name": str(self.config), "weights": str(self.weights), "device": "cpu", **SIZES}
            | values
        )


def write_vmb(folder: Path, image: np.ndarray) -> Files:
    """Write a network whose weights are calibrated on an image (BGR, uint8)."""
    config = folder / "detectron_model.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    torch.manual_seed(0)
    network = VmbNetwork(read_layout(str(config))).eval()
    resize = ResizeLikeCaffe(SIZES["min_size"], SIZES["max_size"])
    options = DetectorSection(min_boxes=100, max_boxes=100, nms_thresh=0.5)
    run = VmbRegions(network, resize, options)
    hw = np.array([image.shape[:2]], np.int32)
    # Tensors that were created in inference mode could not be changed later.
    calibrate(network, lambda: run([resize(image)], hw), SPREADS)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    state["module.roi_heads.box.predictor.cls_embed.weight"] = torch.zeros(21, 256)
    weights = folder / "detectron_model.pth"
    torch.save({"model": state, "optimizer": {}, "iteration": 1}, weights)
    return Files(config, weights)
