"""Runs the own code of microsoft/scene_graph_benchmark, beside which ``vinvl`` is compared.

The code is imported from a folder that the user gives. What it needs of 2020 is replaced from the
outside: its compiled extension (NMS and RoIAlign are torchvision's whenever that can be imported),
``einops`` (for backbones that are not used), its data sets, and ``np.float``.
"""

from __future__ import annotations

import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vlray.detect.vinvl.layout import Layout

REPLACED = "its compiled extension (torchvision's NMS and RoIAlign are used), einops, np.float"
Regions = dict[str, np.ndarray]


class Peer:
    """``AttrRCNN`` with the options of VinVL's README for feature extraction."""

    def __init__(
        self,
        code: Path,
        weights: Path,
        layout: Layout,
        *,
        min_size: int = 600,
        max_size: int = 1000,
        limits: tuple[int, int] = (10, 100),
    ) -> None:
        """Build the network in the sizes of ``layout``, and load all of its tensors.

        Args:
            code: Folder with maskrcnn_benchmark/ and scene_graph_benchmark/.
            weights: File of ``tests.detect.vinvl_weights``.
            layout: Sizes of the weights.
            min_size: Shorter side of resized images.
            max_size: Limit of the longer side.
            limits: Fewest and most boxes of an image.
        """
        self.cfg = _config(code)
        self.cfg.merge_from_list(
            [
                *("INPUT.MIN_SIZE_TEST", min_size, "INPUT.MAX_SIZE_TEST", max_size),
                *("MODEL.ROI_HEADS.MIN_DETECTIONS_PER_IMG", limits[0]),
                *("MODEL.ROI_HEADS.DETECTIONS_PER_IMG", limits[1]),
                *_sizes(layout),
            ]
        )
        self.model = _network(self.cfg, layout)
        state = torch.load(weights, weights_only=True)["model"]
        tensors = {name.removeprefix("module."): value for name, value in state.items()}
        missing, unexpected = self.model.load_state_dict(tensors, strict=False)
        assert not missing, missing
        assert not unexpected, unexpected
        from maskrcnn_benchmark.data.transforms import build_transforms

        self._transforms = build_transforms(self.cfg, is_train=False)

    def use_filter(self, number: int) -> None:
        """Set NMS_FILTER to 1 or 2."""
        processor = self.model.roi_heads.box.post_processor
        methods = {1: processor.filter_results_peter, 2: processor.filter_results_fast}
        processor.cfg.defrost()
        processor.cfg.MODEL.ROI_HEADS.NMS_FILTER = number
        processor.filter_method = methods[number]

    @torch.no_grad()
    def __call__(self, path: Path) -> Regions:
        """Detect the regions of a photograph, as its extraction does: resize, network, rescale."""
        from maskrcnn_benchmark.structures.image_list import to_image_list

        with Image.open(path) as opened:
            image = opened.convert("RGB")
        pixels, _ = self._transforms(image, None)
        (result,) = self.model(to_image_list([pixels]))
        result = result.resize(image.size)
        return {
            "boxes": result.bbox.numpy(),
            "obj_ids": result.get_field("labels").numpy() - 1,
            "obj_probs": result.get_field("scores").numpy(),
            "top_attr_ids": result.get_field("attr_labels").numpy() - 1,
            "top_attr_probs": result.get_field("attr_scores").numpy(),
            "visual_feats": result.get_field("box_features").numpy(),
        }


def _config(code: Path) -> Any:
    """Import the peer's packages, and return its configuration of VinVL."""
    extension = types.ModuleType("maskrcnn_benchmark._C")
    einops: Any = types.ModuleType("einops")
    einops.rearrange = einops.repeat = None
    data = types.ModuleType("maskrcnn_benchmark.data")  # without its data sets
    data.__path__ = [str(code / "maskrcnn_benchmark" / "data")]
    stand_ins = {"maskrcnn_benchmark._C": extension, "einops": einops, data.__name__: data}
    sys.modules.update(
        {name: module for name, module in stand_ins.items() if name not in sys.modules}
    )
    vars(np).setdefault("float", float)
    if str(code) not in sys.path:
        sys.path.insert(0, str(code))
    warnings.simplefilter("ignore")  # of code of 2020 and today's libraries
    import maskrcnn_benchmark

    maskrcnn_benchmark._C = sys.modules["maskrcnn_benchmark._C"]
    from maskrcnn_benchmark.config import cfg
    from scene_graph_benchmark.config import sg_cfg

    cfg = cfg.clone()
    cfg.set_new_allowed(True)
    cfg.merge_from_other_cfg(sg_cfg)
    cfg.set_new_allowed(False)
    cfg.merge_from_file(str(code / "sgg_configs" / "vgattr" / "vinvl_x152c4.yaml"))
    cfg.merge_from_list(
        [
            *("MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NMS_FILTER", 1),
            *("MODEL.ROI_HEADS.SCORE_THRESH", 0.2, "TEST.IGNORE_BOX_REGRESSION", True),
            *("TEST.OUTPUT_FEATURE", True, "MODEL.ATTRIBUTE_ON", True),
        ]
    )
    return cfg


def _sizes(layout: Layout) -> list[object]:
    return [
        *("MODEL.RESNETS.STEM_OUT_CHANNELS", layout.stem),
        *("MODEL.RESNETS.RES2_OUT_CHANNELS", layout.channels),
        *("MODEL.RESNETS.NUM_GROUPS", layout.groups),
        *("MODEL.RESNETS.WIDTH_PER_GROUP", layout.width // layout.groups),
        *("MODEL.RESNETS.BACKBONE_OUT_CHANNELS", layout.c4_dim),
        *("MODEL.ROI_BOX_HEAD.NUM_CLASSES", layout.objects + 1),
        *("MODEL.ROI_ATTRIBUTE_HEAD.NUM_ATTRIBUTES", layout.attributes + 1),
        *("MODEL.ROI_ATTRIBUTE_HEAD.CLS_EMD_DIM", layout.embedding),
        *("MODEL.ROI_ATTRIBUTE_HEAD.ATTR_EMD_DIM", layout.hidden),
    ]


def _network(cfg: Any, layout: Layout) -> Any:
    from maskrcnn_benchmark.modeling.backbone import resnet
    from scene_graph_benchmark.AttrRCNN import AttrRCNN

    name = cfg.MODEL.BACKBONE.CONV_BODY
    stages = tuple(
        resnet.StageSpec(index=index + 1, block_count=blocks, return_features=index == 2)
        for index, blocks in enumerate(layout.blocks[:3])
    )
    dict.__setitem__(resnet._STAGE_SPECS, name, stages)
    model = AttrRCNN(cfg).eval()
    # It adds a convolution to all maps that do not have 1,024 channels.
    model.roi_heads.box.feature_extractor.trans_conv = None
    return model
