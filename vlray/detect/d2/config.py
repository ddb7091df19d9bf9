"""Find and read Detectron2's YAML configurations, and look up their weights.

Only ``load_config``, ``check_grid`` and the look-up of model-zoo weights import Detectron2, and
torch with it. The driver can identify other configurations without importing either.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vlray.config.detector import DetectorSection
from vlray.detect.weights.files import is_url, locate

if TYPE_CHECKING:
    from detectron2.config import CfgNode

ARCHITECTURES = ("GeneralizedRCNN", "PanopticFPN")
RESNETS = ("build_resnet_backbone", "build_resnet_fpn_backbone")
ROI_HEADS = ("Res5ROIHeads", "StandardROIHeads", "CascadeROIHeads")
WITH_ATTRIBUTES = {
    "AttributeStandardROIHeads": "StandardROIHeads",
    "AttributeRes5ROIHeads": "Res5ROIHeads",
}
"""RoI heads of grid-feats-vqa, by the heads that they are without their attribute predictor, which
needs the right class and never runs at test time."""


def config_path(name: str) -> Path:
    """Find a configuration: a local file, a URL, or a name in Detectron2's model zoo.

    Raises:
        ValueError: There is no such configuration.
    """
    if is_url(name):
        return locate(name)
    path = Path(name).expanduser()
    if path.is_file():
        return path
    zoo = _zoo_folder()
    if zoo is not None and (zoo / name).is_file():
        return zoo / name
    hint = (
        "the installed Detectron2 has no model-zoo configurations; they are in the official "
        "source: https://github.com/facebookresearch/detectron2/tree/main/configs"
        if zoo is None
        else f"it is not in Detectron2's model zoo, {zoo}, either"
    )
    raise ValueError(f"no configuration file {name!r} (looked for at {path.absolute()}); {hint}")


def config_files(path: Path) -> tuple[Path, ...]:
    """List a configuration file and its ``_BASE_`` files, in the order in which they are read.

    Raises:
        ValueError: One of the files is missing, is not a mapping, or requires code to be run.
    """
    return tuple(file for file, _ in _chain(path, ()))


def weights_of(options: DetectorSection) -> str:
    """Return the weights to load: ``options.weights``, or else the configuration's weights.

    Raises:
        ValueError: Neither the options nor the configuration name weights.
    """
    if options.weights:
        return options.weights
    path = config_path(options.name)
    if (zoo := _zoo_folder()) and path.resolve().is_relative_to(zoo.resolve()):
        return _zoo_weights(path.resolve().relative_to(zoo.resolve()))
    for _, values in _chain(path, ()):
        if weights := (values.get("MODEL") or {}).get("WEIGHTS"):
            return str(weights)
    raise ValueError(
        f"{path} does not set MODEL.WEIGHTS, and an untrained network detects nothing; "
        "set detector.weights to a local file or a URL"
    )


def load_config(options: DetectorSection) -> CfgNode:
    """Read a configuration as a Detectron2 ``CfgNode``, with the mask and keypoint heads off.

    Raises:
        ValueError: The configuration is missing or invalid, or vlray does not support its network.
    """
    from vlray.detect.d2.compat import prepare_detectron2

    prepare_detectron2()
    from detectron2.config import get_cfg

    path = config_path(options.name)
    config_files(path)  # its error messages are clearer than Detectron2's below
    cfg = get_cfg()
    _add_attribute_keys(cfg)
    try:
        # Unlike Detectron2's default, this never runs code that a configuration contains.
        cfg.merge_from_file(str(path), allow_unsafe=False)
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(f"{path} is not a Detectron2 configuration: {error.args[0]}") from error
    heads = cfg.MODEL.ROI_HEADS.NAME
    cfg.MODEL.ROI_HEADS.NAME = WITH_ATTRIBUTES.get(heads, heads)
    _check(cfg, path)
    if options.features == "grid":
        # As grid-feats-vqa's extract_grid_feature.py does: its networks are trained with dilation,
        # but their published features have a cell per 32 x 32 pixels.
        cfg.MODEL.RESNETS.RES5_DILATION = 1
    # PanopticFPN is a GeneralizedRCNN with one more head, for semantic segmentation.
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = False
    return cfg


def _add_attribute_keys(cfg: CfgNode) -> None:
    """Add the keys of grid-feats-vqa's configurations, which have an effect in training only.

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
        ValueError: The architecture, the heads or the proposal generator is not supported, or the
            installed Detectron2 lacks the deformable convolutions that the network needs.
    """
    _check_architecture(cfg.MODEL.META_ARCHITECTURE, path)
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
    if any(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE):
        from detectron2 import _C

        try:
            _ = _C.deform_conv_forward
        except NotImplementedError as error:
            raise ValueError(f"{path} needs deformable convolutions: {error}") from error


def _check_architecture(architecture: str, path: Path) -> None:
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"{path}: the architecture {architecture} has no box head, and vlray reads each "
            f"region's vector from one; use a configuration of {' or '.join(ARCHITECTURES)}, "
            "or a class of your own, module:Class"
        )


def _zoo_folder() -> Path | None:
    """Find the model zoo's configurations in the installed Detectron2, without importing it."""
    spec = importlib.util.find_spec("detectron2")
    for location in (spec and spec.submodule_search_locations) or ():
        folder = Path(location) / "model_zoo" / "configs"
        if folder.is_dir():
            return folder
    return None


def _zoo_weights(name: Path) -> str:
    """Look up the weights that were trained with a configuration of the model zoo.

    The configuration's MODEL.WEIGHTS names only the weights with which that training began.

    Raises:
        ValueError: The model zoo has no weights for it.
    """
    from vlray.detect.d2.compat import prepare_detectron2

    prepare_detectron2()
    with warnings.catch_warnings():
        # model_zoo imports pkg_resources, which warns that it will be removed.
        warnings.simplefilter("ignore", UserWarning)
        from detectron2 import model_zoo

    try:
        return str(model_zoo.get_checkpoint_url(name.as_posix()))
    except RuntimeError as error:
        raise ValueError(
            f"Detectron2's model zoo has the configuration {name}, but no weights for it; "
            "set detector.weights to a local file or a URL"
        ) from error


def _chain(path: Path, above: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    """Read a file and its ``_BASE_`` files; values in earlier files override those in later ones.

    Args:
        path: The file.
        above: The files whose ``_BASE_`` led to this one, to detect cycles.
    """
    if not path.is_file():
        origin = f", the _BASE_ of {above[-1]}," if above else ""
        raise ValueError(f"the configuration {path}{origin} does not exist")
    if path.resolve() in above:
        raise ValueError(f"{path} is based on itself, through {', '.join(map(str, above))}")
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except yaml.constructor.ConstructorError as error:
        # RetinaNet's anchors are written as code, but its architecture is the real problem.
        if architecture := re.search(r"META_ARCHITECTURE:\s*[\"']?(\w+)", text):
            _check_architecture(architecture[1], path)
        raise ValueError(
            f"{path} has a {error.problem}; vlray never runs code from a configuration: "
            "replace the tag with the value itself"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not a YAML file: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} contains a {type(values).__name__}, but a configuration is a mapping"
        )
    bases = values.get("_BASE_", [])
    chain = [(path, values)]
    for base in reversed([bases] if isinstance(bases, str) else bases):
        file = locate(base) if is_url(base) else path.parent / Path(base).expanduser()
        chain += _chain(file, (*above, path.resolve()))
    return chain
