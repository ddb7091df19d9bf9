"""From the name of a detector to the detector. Imports no torch before one is loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from vlray.config.detector import DetectorSection
from vlray.detect.conform import HOW_TO, build_detector, refuse_vg_options
from vlray.detect.d2.config import check_grid, config_files, config_path, weights_of
from vlray.detect.lite import WEIGHTS
from vlray.detect.protocol import Detector, Resize
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
}
NMS_THRESH = 0.5
OWN_NMS_THRESH = {"vg-caffe": 0.3, "vg-pbua": 0.0}  # 0: several in turn
CAPABLE = {
    "pool_boxes": "lite, vg-caffe, vg-pbua or a Detectron2 config.yaml",
    "grid": "vg-caffe, vg-pbua or a Detectron2 config.yaml",
}
_DETECTRON = "vlray.detect.d2.detector:Detectron"
_CANDIDATES = "vlray.detect.visual_genome.candidates:VgCaffeCandidates"

# Outputs record built-in detectors under these names. They belong to the file format: outputs of
# earlier versions stay valid wherever the classes are.
_RECORDED_AS = {
    PRESETS["lite"]: "vlray.detect.lite:Lite",
    PRESETS["vg-caffe"]: "vlray.detect.vg:VgCaffe",
    PRESETS["vg-pbua"]: "vlray.detect.vg:VgPbua",
    _DETECTRON: "vlray.detect.detectron:Detectron",
    _CANDIDATES: "vlray.detect.vg_candidates:VgCaffeCandidates",
}


def settled(options: DetectorSection) -> DetectorSection:
    """Replace what only this process knows: stored names, relative paths, a detector's own NMS.

    Raises:
        ValueError: There is no detector of that name.
    """
    name = _full_name(options.name)
    place, colon, attribute = name.rpartition(":")
    if colon and place.endswith(".py"):
        name = f"{_absolute(place)}:{attribute}"
    elif _is_config(name):
        name = _absolute(name)
    file, mark, digest = options.weights.partition("#sha256=")
    found = {
        "name": name,
        "weights": f"{_absolute(file)}{mark}{digest}",
        "nms_thresh": options.nms_thresh or OWN_NMS_THRESH.get(name, NMS_THRESH),
    }
    return options.model_copy(update=found)


def detector_class(options: DetectorSection) -> type[Detector]:
    """Import the class that a name stands for.

    Raises:
        ValueError: There is no detector of that name.
    """
    cls: type[Detector] = plugins.load(_target(settled(options).name))
    return cls


def load_detector(options: DetectorSection) -> Detector:
    """Load a detector with its weights onto its device.

    Raises:
        ValueError: There is none of that name, its files do not fit, or its class is not as
            ``protocol.py`` says.
    """
    options = settled(options)
    return build_detector(detector_class(options), options, _target(options.name))


def is_own(options: DetectorSection) -> bool:
    """Tell whether a detector is a class of the user's own.

    Raises:
        ValueError: There is no detector of that name.
    """
    return _target(settled(options).name) not in (*PRESETS.values(), _DETECTRON)


def resize_of(options: DetectorSection) -> Resize | None:
    """Give what brings an image to the detector's input size; None if it takes any."""
    options = settled(options)
    resize = getattr(detector_class(options), "resize", None)
    return None if resize is None else resize(options)


def check_modes(options: DetectorSection, *, boxes_given: bool) -> None:
    """Refuse what a detector's class cannot do, before its weights are loaded.

    Raises:
        ValueError: Boxes are given, or a grid is asked for, and it has no method for that; or an
            option that only the Visual Genome detector follows is given to ``lite`` or Detectron2.
    """
    options = settled(options)
    target = _target(options.name)
    if target in (PRESETS["lite"], _DETECTRON):
        refuse_vg_options(options)
    cls = detector_class(options)
    for method, wanted, what in (
        ("pool_boxes", boxes_given, "pool boxes that are given"),
        ("grid", options.features == "grid", "give grid features"),
    ):
        if wanted and not callable(getattr(cls, method, None)):
            raise ValueError(
                f"{options.name} cannot {what}: {target} has no method {method}, which "
                f"vlray/detect/protocol.py describes; add it, or choose {CAPABLE[method]}"
            )
    if options.features == "grid" and target == _DETECTRON:
        check_grid(options)


def check_weights(options: DetectorSection) -> None:
    """Refuse weights that vlray's own networks cannot load, before any actor tries.

    Raises:
        ValueError: The file is damaged or of another network; what differs is said.
    """
    options = settled(options)
    if options.name in OWN_NMS_THRESH:
        from vlray.detect.visual_genome.detector import weights_of as vg_weights_of

        check_vg(locate(vg_weights_of(options)))
    elif options.weights and _target(options.name) == PRESETS["lite"]:
        check_lite(locate(options.weights))


def identify(options: DetectorSection) -> dict[str, str]:
    """Say what a detector is, by the content of its files rather than by their paths.

    Two runs whose answers are equal make the same regions, the other options being equal too. The
    weights are downloaded if they are not there yet.

    Raises:
        ValueError: There is no detector of that name, or one of its files is missing.
    """
    options = settled(options)
    target = _target(options.name)
    if target == _DETECTRON:
        files = config_files(config_path(options.name))
        digest = hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest()
        weights = sha256(locate(weights_of(options)))
        return {"target": _RECORDED_AS[target], "config_sha256": digest, "weights_sha256": weights}
    identity = {"target": _RECORDED_AS.get(target, target)}
    place, _, attribute = target.rpartition(":")
    if place.endswith(".py"):
        if not Path(place).is_file():
            plugins.load(target)  # says what is wrong
        identity = {
            "target": f"{Path(place).name}:{attribute}",
            "source_sha256": sha256(place),
        }
    if options.name in OWN_NMS_THRESH:
        from vlray.detect.visual_genome.detector import weights_of as vg_weights_of

        identity["weights_sha256"] = sha256(locate(vg_weights_of(options)))
    elif options.weights:
        identity |= _identify_weights(options.weights)
    elif target == PRESETS["lite"]:
        identity["weights_sha256"] = sha256(WEIGHTS)
    return identity


def _identify_weights(weights: str) -> dict[str, str]:
    """Hash a file; what is no file is something that only the detector's class understands."""
    if is_url(weights) or Path(weights.partition("#sha256=")[0]).expanduser().is_file():
        return {"weights_sha256": sha256(locate(weights))}
    return {"weights": weights}


def _full_name(name: str) -> str:
    """Give a preset, a configuration or a class; a stored name gives what it stands for."""
    if name in PRESETS or _is_config(name) or ":" in name:
        return name
    if name.endswith(".py"):
        raise ValueError(f"{name!r} is a file; name its class as well, as in {name}:Detector")
    stored = stored_models()
    if name not in stored:
        close = nearest(name, [*PRESETS, *stored])
        raise ValueError(
            f"there is no detector {name!r}{f'; did you mean {close!r}?' if close else ''}; "
            f"give {_choices(stored)}. {HOW_TO}"
        )
    model = stored[name]
    if model in PRESETS or _is_config(model) or ":" in model:
        return model
    raise ValueError(
        f"the stored detector {name!r} is {model!r}, which is none; store something else with "
        f"`vlray env set models.{name} ...`: {_choices({})}"
    )


def _target(name: str) -> str:
    """Give the class behind a full name, as ``plugins.load`` takes it."""
    return PRESETS.get(name) or (_DETECTRON if _is_config(name) else name)


def _is_config(name: str) -> bool:
    return name.partition("#sha256=")[0].endswith((".yaml", ".yml"))


def _choices(stored: dict[str, Any]) -> str:
    names = ", ".join([*PRESETS, *stored])
    return (
        f"one of {names}, a Detectron2 config.yaml, or a class of your own: "
        "module:Class or path/to/file.py:Class"
    )


def _absolute(file: str) -> str:
    """Make the path of a file that is there absolute; other tasks run in other folders."""
    path = Path(file).expanduser()
    return str(path.absolute()) if file and path.exists() else file
