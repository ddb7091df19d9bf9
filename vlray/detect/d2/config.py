"""Read Detectron2's YAML configurations, and check that vlray supports their networks."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vlray.config.detector import DetectorSection
from vlray.detect.d2.files import check_architecture, config_path, read_chain
from vlray.detect.d2.keys import describe_unknown, used_values

if TYPE_CHECKING:
    from detectron2.config import CfgNode

RESNETS = ("build_resnet_backbone", "build_resnet_fpn_backbone")
ROI_HEADS = ("Res5ROIHeads", "StandardROIHeads", "CascadeROIHeads")
WITH_ATTRIBUTES = {
    "AttributeStandardROIHeads": "StandardROIHeads",
    "AttributeRes5ROIHeads": "Res5ROIHeads",
}
"""RoI heads of grid-feats-vqa, and the heads that they are without their attribute predictor."""


def load_config(options: DetectorSection) -> CfgNode:
    """Read a configuration as a Detectron2 ``CfgNode``, with the mask and keypoint heads off.

    Raises:
        ValueError: The configuration is missing or invalid, or vlray does not support its network.
    """
    from vlray.detect.d2.compat import prepare_detectron2

    prepare_detectron2()
    from detectron2.config import get_cfg

    path = config_path(options.name)
    cfg = get_cfg()
    _add_attribute_keys(cfg)
    _merge(cfg, path)
    heads = cfg.MODEL.ROI_HEADS.NAME
    cfg.MODEL.ROI_HEADS.NAME = WITH_ATTRIBUTES.get(heads, heads)
    # Other heads ignore the key.
    cfg.MODEL.ATTRIBUTE_ON = cfg.MODEL.ATTRIBUTE_ON and heads in WITH_ATTRIBUTES
    _check(cfg, path)
    if options.features == "grid":
        # As grid-feats-vqa's extract_grid_feature.py does: its networks are trained with dilation,
        # but their published features have a cell per 32 x 32 pixels.
        cfg.MODEL.RESNETS.RES5_DILATION = 1
    # PanopticFPN is a GeneralizedRCNN with one more head, for semantic segmentation.
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = False
    return cfg


def _merge(cfg: CfgNode, path: Path) -> None:
    """Merge a configuration file and its ``_BASE_`` files into Detectron2's defaults.

    Raises:
        ValueError: A file cannot be read, or has keys that Detectron2 does not know; the message
            lists all of them.
    """
    from detectron2.config import CfgNode
    from detectron2.config.compat import guess_version

    values: dict[str, Any] = {}
    for _, of_file in reversed(read_chain(path)):
        _override(values, of_file)
    values = used_values(values)
    values.pop("_BASE_", None)
    try:
        loaded = CfgNode(values)
        version = values.get("VERSION") or guess_version(loaded, str(path))
        # Detectron2 renames the keys of older versions itself.
        unknown = describe_unknown(values, cfg) if version == cfg.VERSION else ""
        if not unknown:
            _merge_values(cfg, values)
    except (KeyError, ValueError, AssertionError, AttributeError) as error:
        raise ValueError(f"{path} is not a Detectron2 configuration: {error.args[0]}") from error
    if unknown:
        raise ValueError(
            f"{path} is not a Detectron2 configuration: these keys belong to other projects:\n"
            f"{unknown}\nFor a network of another project, write a class of your own, "
            "module:Class; remove keys that only its training uses"
        )


def _merge_values(cfg: CfgNode, values: dict[str, Any]) -> None:
    # Only merge_from_file upgrades configurations of older versions.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(yaml.safe_dump(values), encoding="utf-8")
        # Unlike Detectron2's default, this never runs code that a configuration contains.
        cfg.merge_from_file(str(file), allow_unsafe=False)


def _override(values: dict[str, Any], by: Mapping[str, Any]) -> None:
    """Override values in place, section by section."""
    for name, value in by.items():
        if isinstance(value, dict) and isinstance(values.get(name), dict):
            _override(values[name], value)
        else:
            values[name] = value


def _add_attribute_keys(cfg: CfgNode) -> None:
    """Add the keys of grid-feats-vqa's configurations.

    Source:
        facebookresearch/grid-feats-vqa, grid_feats/config.py.
    """
    from detectron2.config import CfgNode

    cfg.MODEL.ATTRIBUTE_ON = False
    cfg.INPUT.MAX_ATTR_PER_INS = 16
    cfg.MODEL.ROI_ATTRIBUTE_HEAD = CfgNode(
        {"OBJ_EMBED_DIM": 256, "FC_DIM": 512, "LOSS_WEIGHT": 0.2, "NUM_CLASSES": 400}
    )
    for part in (cfg.MODEL.RPN, cfg.MODEL.ROI_BOX_HEAD):
        part.setdefault("BBOX_LOSS_WEIGHT", 1.0)


def check_grid(options: DetectorSection) -> None:
    """Refuse a configuration whose network lacks the feature map ``options.grid_layer``.

    Raises:
        ValueError: The backbone is not a ResNet, alone or below a feature pyramid, or it ends
            before that map.
    """
    model = load_config(options).MODEL
    backbone, stages = model.BACKBONE.NAME, model.RESNETS.OUT_FEATURES
    if backbone not in RESNETS:
        raise ValueError(
            f"{options.name} has MODEL.BACKBONE.NAME={backbone}, and detector.features=grid needs "
            f"the maps c4 and res5 of a ResNet: {' or '.join(RESNETS)}"
        )
    # Res5ROIHeads has res5 in the RoI heads, not in the backbone.
    has_res5 = "res5" in stages or model.ROI_HEADS.NAME == "Res5ROIHeads"
    if not has_res5 and (options.grid_layer == "res5" or "res4" not in stages):
        raise ValueError(
            f"{options.name} has MODEL.RESNETS.OUT_FEATURES={stages}, so its network ends before "
            f"detector.grid_layer={options.grid_layer}"
        )


def _check(cfg: CfgNode, path: Path) -> None:
    """Refuse networks from which vlray cannot read regions.

    Raises:
        ValueError: The architecture, the heads or the proposal generator is not supported.
    """
    check_architecture(cfg.MODEL.META_ARCHITECTURE, path)
    if cfg.MODEL.ROI_HEADS.NAME not in ROI_HEADS:
        raise ValueError(
            f"{path}: vlray reads each region's vector from the box head of "
            f"{', '.join(ROI_HEADS)}, not {cfg.MODEL.ROI_HEADS.NAME}; "
            "for other heads write a class of your own, module:Class"
        )
    if cfg.MODEL.PROPOSAL_GENERATOR.NAME != "RPN":
        raise ValueError(
            f"{path}: MODEL.PROPOSAL_GENERATOR.NAME is {cfg.MODEL.PROPOSAL_GENERATOR.NAME}; "
            "vlray supports only RPN, which proposes axis-aligned boxes"
        )
