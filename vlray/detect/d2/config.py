"""Detectron2's YAML configurations: find them, read them, name the weights they stand for.

Detectron2, and torch with it, is imported only by ``load_config`` and for names of its model zoo;
the rest tells what a configuration stands for before that is needed.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from pathlib import Path
from typing import Any

import yaml

from vlray.config.detector import DetectorSection
from vlray.detect.weights.files import is_url, locate

ARCHITECTURES = ("GeneralizedRCNN", "PanopticFPN")
RESNETS = ("build_resnet_backbone", "build_resnet_fpn_backbone")
ROI_HEADS = ("Res5ROIHeads", "StandardROIHeads", "CascadeROIHeads")


def config_path(name: str) -> Path:
    """Find a configuration: a local file, a URL, or a name of Detectron2's model zoo.

    Raises:
        ValueError: There is none.
    """
    if is_url(name):
        return locate(name)
    path = Path(name).expanduser()
    if path.is_file():
        return path
    zoo = _zoo_folder()
    if zoo is not None and (zoo / name).is_file():
        return zoo / name
    shipped = (
        "this Detectron2 ships no model-zoo configurations, its official source does: "
        "https://github.com/facebookresearch/detectron2/tree/main/configs"
        if zoo is None
        else f"nor is it one of Detectron2's model zoo, {zoo}"
    )
    raise ValueError(f"no configuration file {name!r} (looked for at {path.absolute()}); {shipped}")


def config_files(path: Path) -> tuple[Path, ...]:
    """Give a configuration's file and those that it is based on, in the order of reading.

    Raises:
        ValueError: One of them is missing, is no mapping, or wants code to be run.
    """
    return tuple(file for file, _ in _chain(path, ()))


def weights_of(options: DetectorSection) -> str:
    """Give the weights to load: those asked for, else those that belong to the configuration.

    Raises:
        ValueError: Neither names any.
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
        f"{path} names no MODEL.WEIGHTS, and a network without weights finds nothing; "
        "give detector.weights a local file or a URL"
    )


def load_config(options: DetectorSection) -> Any:
    """Read a configuration into Detectron2's own form, with the heads off that vlray does not use.

    Raises:
        ValueError: It has an unknown key, or describes a network without a box head.
    """
    from vlray.detect.d2.compat import prepare_detectron2

    prepare_detectron2()
    from detectron2.config import get_cfg

    path = config_path(options.name)
    config_files(path)  # its errors are clearer than what follows
    cfg = get_cfg()
    try:
        # Unlike Detectron2's default: a configuration is data, no code is run from it.
        cfg.merge_from_file(str(path), allow_unsafe=False)
    except (KeyError, ValueError, AssertionError) as error:
        raise ValueError(f"{path} is no Detectron2 configuration: {error.args[0]}") from error
    _check(cfg, path)
    # PanopticFPN is a GeneralizedRCNN with a head for the pixels beside the boxes.
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.MASK_ON = cfg.MODEL.KEYPOINT_ON = False
    return cfg


def check_grid(options: DetectorSection) -> None:
    """Refuse a configuration whose network has no maps that are called C4 and res5.

    Raises:
        ValueError: Its backbone is no ResNet, alone or below a feature pyramid, or ends before
            the map that the options name.
    """
    model = load_config(options).MODEL
    backbone, stages = model.BACKBONE.NAME, model.RESNETS.OUT_FEATURES
    if backbone not in RESNETS:
        raise ValueError(
            f"{options.name} has MODEL.BACKBONE.NAME={backbone}, and detector.features=grid takes "
            f"the maps c4 and res5 of a ResNet: {' or '.join(RESNETS)}"
        )
    has_res5 = "res5" in stages or model.ROI_HEADS.NAME == "Res5ROIHeads"
    if not has_res5 and (options.grid_layer == "res5" or "res4" not in stages):
        raise ValueError(
            f"{options.name} has MODEL.RESNETS.OUT_FEATURES={stages}, so its network ends before "
            f"detector.grid_layer={options.grid_layer}"
        )


def _check(cfg: Any, path: Path) -> None:
    _check_architecture(cfg.MODEL.META_ARCHITECTURE, path)
    if cfg.MODEL.ROI_HEADS.NAME not in ROI_HEADS:
        raise ValueError(
            f"{path}: vlray reads each region's vector from the box head of "
            f"{', '.join(ROI_HEADS)}, not {cfg.MODEL.ROI_HEADS.NAME}; "
            "for other heads give a class of your own, module:Class"
        )
    if cfg.MODEL.PROPOSAL_GENERATOR.NAME != "RPN":
        raise ValueError(
            f"{path}: MODEL.PROPOSAL_GENERATOR.NAME is {cfg.MODEL.PROPOSAL_GENERATOR.NAME}; "
            "vlray needs a network that finds its own upright boxes, that is RPN"
        )
    if any(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE):
        from detectron2 import _C

        try:
            _ = _C.deform_conv_forward
        except NotImplementedError as error:
            raise ValueError(f"{path} wants deformable convolutions: {error}") from error


def _check_architecture(architecture: str, path: Path) -> None:
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"{path}: the architecture {architecture} has no box head, and vlray reads each "
            f"region's vector from one; give a configuration of {' or '.join(ARCHITECTURES)}, "
            "or a class of your own, module:Class"
        )


def _zoo_folder() -> Path | None:
    """Find the configurations beside Detectron2's code, without importing it."""
    spec = importlib.util.find_spec("detectron2")
    for location in (spec and spec.submodule_search_locations) or ():
        folder = Path(location) / "model_zoo" / "configs"
        if folder.is_dir():
            return folder
    return None


def _zoo_weights(name: Path) -> str:
    """Look up the weights that were trained with a configuration of the model zoo.

    Its own MODEL.WEIGHTS is only what the training began with.
    """
    from vlray.detect.d2.compat import prepare_detectron2

    prepare_detectron2()
    with warnings.catch_warnings():
        # It imports pkg_resources, which says of itself that it is going away.
        warnings.simplefilter("ignore", UserWarning)
        from detectron2 import model_zoo

    try:
        return str(model_zoo.get_checkpoint_url(name.as_posix()))
    except RuntimeError as error:
        raise ValueError(
            f"Detectron2's model zoo has the configuration {name}, but no weights for it; "
            "give detector.weights a local file or a URL"
        ) from error


def _chain(path: Path, above: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    """Read a file and then its bases; what comes first has the last word."""
    if not path.is_file():
        named = f", the _BASE_ of {above[-1]}," if above else ""
        raise ValueError(f"the configuration {path}{named} does not exist")
    if path.resolve() in above:
        raise ValueError(f"{path} is based on itself, by way of {', '.join(map(str, above))}")
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except yaml.constructor.ConstructorError as error:
        # RetinaNet's anchors are written as code; its architecture is the better reason.
        if architecture := re.search(r"META_ARCHITECTURE:\s*[\"']?(\w+)", text):
            _check_architecture(architecture[1], path)
        raise ValueError(
            f"{path} has a {error.problem}; vlray runs no code out of a configuration: "
            "write the value itself in its place"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML file: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} holds {type(values).__name__}, not the mapping of a configuration"
        )
    bases = values.get("_BASE_", [])
    chain = [(path, values)]
    for base in reversed([bases] if isinstance(bases, str) else bases):
        file = locate(base) if is_url(base) else path.parent / Path(base).expanduser()
        chain += _chain(file, (*above, path.resolve()))
    return chain
