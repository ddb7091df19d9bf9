"""Read maskrcnn-benchmark's YAML configurations. Does not import torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vlray.detect.d2.files import ZOO_PREFIX, config_path, read_chain

MIN_SIZE, MAX_SIZE = 800, 1333
"""Input size, pixels; MMF's extraction does not read the configuration's."""
BOXES = 100
"""Regions of each image in the published features."""

BLOCKS = {"R-50-FPN": (3, 4, 6, 3), "R-101-FPN": (3, 4, 23, 3), "R-152-FPN": (3, 8, 36, 3)}
"""Numbers of residual blocks, by ``MODEL.BACKBONE.CONV_BODY``."""

# Every key that changes a region, with maskrcnn-benchmark's default.
_DEFAULTS: dict[str, Any] = {
    "META_ARCHITECTURE": "GeneralizedRCNN",
    "RPN_ONLY": False,
    "BACKBONE.CONV_BODY": "R-50-C4",
    "BACKBONE.OUT_CHANNELS": 1024,
    "RESNETS.BACKBONE_OUT_CHANNELS": 0,  # later versions have OUT_CHANNELS here
    "RESNETS.NUM_GROUPS": 1,
    "RESNETS.WIDTH_PER_GROUP": 64,
    "RESNETS.STRIDE_IN_1X1": True,
    "RESNETS.TRANS_FUNC": "BottleneckWithFixedBatchNorm",
    "RESNETS.STEM_FUNC": "StemWithFixedBatchNorm",
    "RESNETS.RES5_DILATION": 1,
    "RESNETS.RES2_OUT_CHANNELS": 256,
    "RESNETS.STEM_OUT_CHANNELS": 64,
    "RPN.USE_FPN": False,
    "RPN.RPN_HEAD": "SingleConvRPNHead",
    "RPN.ANCHOR_SIZES": (32, 64, 128, 256, 512),
    "RPN.ANCHOR_STRIDE": (16,),
    "RPN.ASPECT_RATIOS": (0.5, 1.0, 2.0),
    "RPN.PRE_NMS_TOP_N_TEST": 6000,
    "RPN.POST_NMS_TOP_N_TEST": 1000,
    "RPN.FPN_POST_NMS_TOP_N_TEST": 2000,
    "RPN.NMS_THRESH": 0.7,
    "RPN.MIN_SIZE": 0,
    "ROI_HEADS.USE_FPN": False,
    "ROI_BOX_HEAD.FEATURE_EXTRACTOR": "ResNet50Conv5ROIFeatureExtractor",
    "ROI_BOX_HEAD.PREDICTOR": "FastRCNNPredictor",
    "ROI_BOX_HEAD.POOLER_RESOLUTION": 14,
    "ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0,
    "ROI_BOX_HEAD.POOLER_SCALES": (1 / 16,),
    "ROI_BOX_HEAD.NUM_CLASSES": 81,
    "ROI_BOX_HEAD.MLP_HEAD_DIM": 1024,
}
_REQUIRED = {
    "META_ARCHITECTURE": "GeneralizedRCNN",
    "RPN_ONLY": False,
    "RESNETS.TRANS_FUNC": "BottleneckWithFixedBatchNorm",
    "RESNETS.STEM_FUNC": "StemWithFixedBatchNorm",
    "RESNETS.RES5_DILATION": 1,
    "RPN.USE_FPN": True,
    "RPN.RPN_HEAD": "SingleConvRPNHead",
    "ROI_HEADS.USE_FPN": True,
    "ROI_BOX_HEAD.FEATURE_EXTRACTOR": "FPN2MLPFeatureExtractor",
    "ROI_BOX_HEAD.PREDICTOR": "FPNPredictor",
}
"""Values without which the network is of another kind."""
# Keys that only training uses, and heads that features do not need. A dot ends a whole section.
_UNUSED = (
    *("WEIGHT", "DEVICE", "MASK_ON", "KEYPOINT_ON", "CLS_AGNOSTIC_BBOX_REG", "RETINANET_ON"),
    *("ROI_MASK_HEAD.", "ROI_KEYPOINT_HEAD.", "RETINANET.", "BACKBONE.FREEZE_CONV_BODY_AT"),
    *("RPN.STRADDLE_THRESH", "RPN.FG_IOU_THRESHOLD", "RPN.BG_IOU_THRESHOLD"),
    *("RPN.BATCH_SIZE_PER_IMAGE", "RPN.POSITIVE_FRACTION", "RPN.PRE_NMS_TOP_N_TRAIN"),
    *("RPN.POST_NMS_TOP_N_TRAIN", "RPN.FPN_POST_NMS_TOP_N_TRAIN", "RPN.FPN_POST_NMS_PER_BATCH"),
    *("ROI_HEADS.FG_IOU_THRESHOLD", "ROI_HEADS.BG_IOU_THRESHOLD", "ROI_HEADS.BBOX_REG_WEIGHTS"),
    *("ROI_HEADS.BATCH_SIZE_PER_IMAGE", "ROI_HEADS.POSITIVE_FRACTION", "ROI_HEADS.SCORE_THRESH"),
    *("ROI_HEADS.NMS", "ROI_HEADS.DETECTIONS_PER_IMG"),
    *("ROI_BOX_HEAD.RETURN_FC_FEATS", "ROI_BOX_HEAD.ATTR"),
)


@dataclass(frozen=True)
class Layout:
    """Sizes of a network and rules of its proposals. Lengths are in pixels of the resized image."""

    blocks: tuple[int, ...]
    stem: int
    res2: int
    groups: int
    width_per_group: int
    stride_in_1x1: bool
    channels: int
    """Channels of the feature pyramid."""
    anchor_sizes: tuple[int, ...]
    anchor_strides: tuple[int, ...]
    aspect_ratios: tuple[float, ...]
    pre_nms_topk: int
    """Of each level of the pyramid."""
    level_topk: int
    """Proposals that are kept of each level after NMS."""
    post_nms_topk: int
    """Proposals of all levels that are pooled."""
    rpn_nms_thresh: float
    min_side: int
    pooler_resolution: int
    pooler_scales: tuple[float, ...]
    pooler_sampling: int
    fc_dim: int
    num_classes: int
    """With the background, which is class 0 of the weights."""

    def described(self) -> dict[str, object]:
        """Return the layout as plain types, with the rules that all such networks share."""
        rules = {"resize": "opencv", "nms": "each class", "plus_one": True, "order": "confidence"}
        return asdict(self) | {"regressed_boxes": False} | rules


def is_vmb(name: str) -> bool:
    """Return whether a detector's name is a configuration of maskrcnn-benchmark, by its content."""
    if name.startswith(ZOO_PREFIX):
        return False
    try:
        model = read_chain(config_path(name))[0][1].get("MODEL")
    except (OSError, ValueError):
        return False  # reading it as Detectron2's raises an error with the reason
    return isinstance(model, dict) and "CONV_BODY" in (model.get("BACKBONE") or {})


def read_layout(name: str) -> Layout:
    """Read a network's configuration.

    Raises:
        ValueError: The configuration is of a network without a feature pyramid or of another kind,
            or has keys that vlray does not know; the message lists all of them.
    """
    path = config_path(name)
    model = read_chain(path)[0][1]["MODEL"]
    given = {key: _value(value) for key, value in _flat(model, "")}
    unknown = [
        key
        for key in given
        if key not in _DEFAULTS
        and not any(key == u or (u[-1] == "." and key.startswith(u)) for u in _UNUSED)
    ]
    values = _DEFAULTS | {key: value for key, value in given.items() if key in _DEFAULTS}
    problems = [f"MODEL.{key}: vlray does not know this key" for key in unknown]
    problems += [
        f"MODEL.{key} is {values[key]}; vlray supports {value}"
        for key, value in _REQUIRED.items()
        if values[key] != value
    ]
    body = values["BACKBONE.CONV_BODY"]
    if body not in BLOCKS:
        vinvl = " (for VinVL's network, use --name vinvl)" if str(body).endswith("C4") else ""
        problems.append(
            f"MODEL.BACKBONE.CONV_BODY is {body}; vlray supports {', '.join(BLOCKS)}{vinvl}"
        )
    if problems:
        raise ValueError(
            f"{path} is a configuration of maskrcnn-benchmark that vlray does not support:\n  "
            + "\n  ".join(problems)
        )
    return _layout(values)


def _layout(values: Mapping[str, Any]) -> Layout:
    return Layout(
        blocks=BLOCKS[values["BACKBONE.CONV_BODY"]],
        stem=values["RESNETS.STEM_OUT_CHANNELS"],
        res2=values["RESNETS.RES2_OUT_CHANNELS"],
        groups=values["RESNETS.NUM_GROUPS"],
        width_per_group=values["RESNETS.WIDTH_PER_GROUP"],
        stride_in_1x1=values["RESNETS.STRIDE_IN_1X1"],
        channels=values["RESNETS.BACKBONE_OUT_CHANNELS"] or values["BACKBONE.OUT_CHANNELS"],
        anchor_sizes=tuple(values["RPN.ANCHOR_SIZES"]),
        anchor_strides=tuple(values["RPN.ANCHOR_STRIDE"]),
        aspect_ratios=tuple(values["RPN.ASPECT_RATIOS"]),
        pre_nms_topk=values["RPN.PRE_NMS_TOP_N_TEST"],
        level_topk=values["RPN.POST_NMS_TOP_N_TEST"],
        post_nms_topk=values["RPN.FPN_POST_NMS_TOP_N_TEST"],
        rpn_nms_thresh=values["RPN.NMS_THRESH"],
        min_side=values["RPN.MIN_SIZE"],
        pooler_resolution=values["ROI_BOX_HEAD.POOLER_RESOLUTION"],
        pooler_scales=tuple(values["ROI_BOX_HEAD.POOLER_SCALES"]),
        pooler_sampling=values["ROI_BOX_HEAD.POOLER_SAMPLING_RATIO"],
        fc_dim=values["ROI_BOX_HEAD.MLP_HEAD_DIM"],
        num_classes=values["ROI_BOX_HEAD.NUM_CLASSES"],
    )


def _is_unused(key: str) -> bool:
    return key in _UNUSED or key.startswith(tuple(name for name in _UNUSED if name[-1] == "."))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the value of each key."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _value(value: Any) -> Any:
    """Decode a tuple, which YAML reads as text: ``(4, 8, 16)``."""
    if isinstance(value, str) and value.startswith("("):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    return value
