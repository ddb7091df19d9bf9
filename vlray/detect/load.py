"""Resolve, check, identify and load detectors by name. Imports torch only when needed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from vlray.config.detector import DetectorSection
from vlray.detect.conform import (
    HOW_TO,
    build_detector,
    refuse_backbone_precision,
    refuse_vg_options,
    refuse_vinvl_options,
)
from vlray.detect.d2 import check_installed
from vlray.detect.d2.config import check_grid
from vlray.detect.d2.files import ZOO_PREFIX, config_files, config_path, weights_of
from vlray.detect.lite import WEIGHTS
from vlray.detect.protocol import Detector, Resize
from vlray.detect.vmb.config import BOXES as VMB_BOXES
from vlray.detect.vmb.config import is_vmb
from vlray.detect.weights.files import is_url, locate, sha256
from vlray.detect.weights_check import check_lite, check_vg
from vlray.settings import plugins
from vlray.settings.options import nearest
from vlray.settings.state import stored_models

__all__ = [
    "check_modes",
    "check_weights",
    "detector_class",
    "identify",
    "is_own",
    "load_detector",
    "resize_of",
    "settled",
]

PRESETS = {
    "lite": "vlray.detect.lite.detector:Lite",
    "vg-caffe": "vlray.detect.visual_genome.detector:VgCaffe",
    "vg-pbua": "vlray.detect.visual_genome.detector:VgPbua",
    "vinvl": "vlray.detect.vinvl.detector:Vinvl",
}
DEFAULT_NMS_THRESH = 0.5
VG_NMS_THRESH = {"vg-caffe": 0.3, "vg-pbua": 0.0}  # 0: the preset tries several thresholds
VINVL = "vinvl"  # its threshold depends on nms_filter
DETECTORS_WITH = {  # detectors with each optional method, for an error message
    "pool_boxes": "lite, vg-caffe, vg-pbua, vinvl or a Detectron2 config.yaml",
    "grid": "vg-caffe, vg-pbua, vinvl or a Detectron2 config.yaml",
}
_DETECTRON = "vlray.detect.d2.detector:Detectron"
_VMB = "vlray.detect.vmb.detector:Vmb"
_CANDIDATES = "vlray.detect.visual_genome.candidates:VgCaffeCandidates"

# Outputs record built-in detectors under these names. The names are part of the file format, so
# they stay the same when a class moves: outputs of earlier versions remain valid. They change when
# a class writes other vectors: then the outputs of earlier versions cannot be continued.
_RECORDED_AS = {
    PRESETS["lite"]: "vlray.detect.lite:Lite+stages",
    PRESETS["vg-caffe"]: "vlray.detect.vg:VgCaffe",
    PRESETS["vg-pbua"]: "vlray.detect.vg:VgPbua",
    _DETECTRON: "vlray.detect.detectron:Detectron",
    _CANDIDATES: "vlray.detect.vg_candidates:VgCaffeCandidates",
}


def settled(options: DetectorSection) -> DetectorSection:
    """Resolve options, so that an actor in another working directory can use them.

    A stored name is replaced with the detector that it stands for, relative paths become absolute,
    and ``nms_thresh=0`` becomes the detector's default.

    Raises:
        ValueError: There is no detector with that name.
    """
    name = _full_name(options.name)
    file, colon, attribute = name.rpartition(":")
    if colon and file.endswith(".py"):
        name = f"{_absolute(file)}:{attribute}"
    elif _is_config(name):
        name = _absolute(name)
    nms_thresh = 0.0 if name == VINVL else VG_NMS_THRESH.get(name, DEFAULT_NMS_THRESH)
    updates: dict[str, object] = {
        "name": name,
        "weights": _absolute_file(options.weights),
        "labels": _absolute_file(options.labels),
        "nms_thresh": options.nms_thresh or nms_thresh,
    }
    if _target(name) == _VMB:
        # MMF's features have another number of boxes than these options' defaults, and are fc6.
        if not {"min_boxes", "max_boxes"} & options.model_fields_set:
            updates |= {"min_boxes": VMB_BOXES, "max_boxes": VMB_BOXES}
        if options.features == "pooled":
            updates["features"] = "fc6"
    return options.model_copy(update=updates)


def detector_class(options: DetectorSection) -> type[Detector]:
    """Import the class of a detector.

    Raises:
        ValueError: There is no detector with that name.
    """
    cls: type[Detector] = plugins.load(_target(settled(options).name))
    return cls


def load_detector(options: DetectorSection) -> Detector:
    """Load a detector and its weights onto its device.

    Raises:
        ValueError: There is no detector with that name, its weights do not fit, or its class does
            not conform to ``protocol.py``.
    """
    options = settled(options)
    return build_detector(detector_class(options), options, _target(options.name))


def is_own(options: DetectorSection) -> bool:
    """Return whether a detector is the user's own class.

    Raises:
        ValueError: There is no detector with that name.
    """
    return _target(settled(options).name) not in (*PRESETS.values(), _DETECTRON, _VMB)


def resize_of(options: DetectorSection) -> Resize | None:
    """Return the function that resizes an image to the detector's input size.

    None means that the detector takes images in their original size.

    Raises:
        ValueError: There is no detector with that name.
    """
    options = settled(options)
    resize = getattr(detector_class(options), "resize", None)
    return None if resize is None else resize(options)


def check_modes(options: DetectorSection, *, boxes_given: bool) -> None:
    """Refuse options that a detector's class does not support, before its weights are loaded.

    Args:
        options: The detector and its options.
        boxes_given: Whether the user supplies boxes to pool.

    Raises:
        ValueError: The class has no method for the user's boxes or for grid features, the network
            has no such grid layer, or an option is only for the Visual Genome detector.
        ImportError: A built-in detector needs Detectron2, which is not installed.
    """
    options = settled(options)
    target = _target(options.name)
    if not is_own(options):
        check_installed()  # before an actor imports it
    if target in (PRESETS["lite"], _DETECTRON, _VMB):
        refuse_vg_options(options)
    if target not in (PRESETS["vg-caffe"], PRESETS["vg-pbua"]) and not is_own(options):
        refuse_backbone_precision(options)
    if options.name != VINVL and not is_own(options):
        refuse_vinvl_options(options)
    cls = detector_class(options)
    for method, is_needed, task in (
        ("pool_boxes", boxes_given, "pool boxes that you supply"),
        ("grid", options.features == "grid", "compute grid features"),
    ):
        if is_needed and not callable(getattr(cls, method, None)):
            raise ValueError(
                f"{options.name} cannot {task}: {target} has no method {method}; add the method "
                f"(see vlray/detect/protocol.py), or choose {DETECTORS_WITH[method]}"
            )
    if options.features in ("fc6", "fc7") and target not in (_DETECTRON, _VMB):
        raise ValueError(
            f"detector.features={options.features} works only with a config.yaml of Detectron2 or "
            f"maskrcnn-benchmark or a {ZOO_PREFIX} name, whose box head has fully connected "
            f"layers, not with {options.name}"
        )
    if options.features == "grid" and target == _DETECTRON:
        check_grid(options)


def check_weights(options: DetectorSection) -> None:
    """Refuse weights that a built-in detector cannot load, before any actor starts.

    For a Detectron2 configuration, only the file is checked: the comparison with the network needs
    the network, which the actors build.

    Raises:
        ValueError: The file is damaged or belongs to another network; the message lists the
            differences.
    """
    options = settled(options)
    if options.name in VG_NMS_THRESH:
        from vlray.detect.visual_genome.detector import weights_of as vg_weights_of

        check_vg(locate(vg_weights_of(options)))
    elif options.name == VINVL:
        from vlray.detect.vinvl.detector import check_files

        check_files(options)
    elif options.weights and _target(options.name) == PRESETS["lite"]:
        check_lite(locate(options.weights))
    elif _target(options.name) in (_DETECTRON, _VMB):
        from vlray.detect.d2.checkpoint import read_checkpoint

        read_checkpoint(locate(weights_of(options)))


def identify(options: DetectorSection) -> dict[str, str]:
    """Identify a detector by the content of its files, regardless of their paths.

    Two runs with equal identities and equal options produce the same regions. Weights that are
    not on this machine yet are downloaded.

    Returns:
        The class, and the SHA-256 of its source file, its configuration and its weights, if any.

    Raises:
        ValueError: There is no detector with that name, or one of its files is missing.
    """
    options = settled(options)
    target = _target(options.name)
    if target in (_DETECTRON, _VMB):
        # The digest covers the configuration and all _BASE_ files that it is built on.
        files = config_files(config_path(options.name))
        digest = hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()
        weights = sha256(locate(weights_of(options)))
        return {
            "target": _RECORDED_AS.get(target, target),
            "config_sha256": digest,
            "weights_sha256": weights,
        }
    identity = {"target": _RECORDED_AS.get(target, target)}
    file, _, attribute = target.rpartition(":")
    if file.endswith(".py"):
        if not Path(file).is_file():
            plugins.load(target)  # raises an error with the reason
        identity = {
            "target": f"{Path(file).name}:{attribute}",
            "source_sha256": sha256(file),
        }
    if options.name in VG_NMS_THRESH:
        from vlray.detect.visual_genome.detector import weights_of as vg_weights_of

        identity["weights_sha256"] = sha256(locate(vg_weights_of(options)))
    elif options.name == VINVL:
        from vlray.detect.vinvl.detector import weights_of as vinvl_weights_of

        identity["weights_sha256"] = sha256(locate(vinvl_weights_of(options)))
        if options.labels:
            identity["labels_sha256"] = sha256(locate(options.labels))
    elif options.weights:  # for lite, or for the user's own class
        identity |= _identify_weights(options.weights)
    elif target == PRESETS["lite"]:
        identity["weights_sha256"] = sha256(WEIGHTS)
    return identity


def _identify_weights(weights: str) -> dict[str, str]:
    """Return the SHA-256 of weights in a file or at a URL, or else the text unchanged."""
    if is_url(weights) or Path(weights.partition("#sha256=")[0]).expanduser().is_file():
        return {"weights_sha256": sha256(locate(weights))}
    return {"weights": weights}


def _full_name(name: str) -> str:
    """Replace a stored name with the preset, configuration or class that it stands for.

    Raises:
        ValueError: The name is unknown, or its stored value is not a detector.
    """
    if name in PRESETS or _is_config(name) or ":" in name:
        return name
    if name.endswith(".py"):
        raise ValueError(
            f"{name!r} names a file, not a class; append the name of the class, "
            f"such as {name}:Detector"
        )
    stored = stored_models()
    if name not in stored:
        close = nearest(name, [*PRESETS, *stored])
        raise ValueError(
            f"unknown detector {name!r}{f' (did you mean {close!r}?)' if close else ''}; "
            f"choose {_choices(stored)}. {HOW_TO}"
        )
    model = stored[name]
    if model in PRESETS or _is_config(model) or ":" in model:
        return model
    raise ValueError(
        f"the stored name {name!r} stands for {model!r}, which is not a detector; replace it "
        f"with `vlray env set models.{name} ...`: {_choices({})}"
    )


def _target(name: str) -> str:
    """Return the class that a resolved name stands for, in the format for ``plugins.load``."""
    if _is_config(name):
        return _VMB if is_vmb(name) else _DETECTRON
    return PRESETS.get(name, name)


def _is_config(name: str) -> bool:
    is_yaml = name.partition("#sha256=")[0].endswith((".yaml", ".yml"))
    return is_yaml or name.startswith(ZOO_PREFIX)


def _choices(stored: Mapping[str, str]) -> str:
    names = ", ".join([*PRESETS, *stored])
    return (
        f"one of {names}, a Detectron2 config.yaml, or a class of your own: "
        "module:Class or path/to/file.py:Class"
    )


def _absolute_file(source: str) -> str:
    """Make the path in ``PATH#sha256=DIGEST`` absolute, if it is an existing file."""
    file, mark, digest = source.partition("#sha256=")
    return f"{_absolute(file)}{mark}{digest}"


def _absolute(file: str) -> str:
    """Make an existing file's path absolute, because Ray tasks run in other directories."""
    path = Path(file).expanduser()
    # URLs, names on the Hub and Detectron2's model-zoo names stay as they are.
    return str(path.absolute()) if file and path.exists() else file
