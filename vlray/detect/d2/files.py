"""Find Detectron2's YAML configurations with the files that they are built on, and their weights.

Only the look-up of model-zoo weights imports Detectron2, and torch with it. The driver can identify
other configurations without importing either.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from vlray.config.detector import DetectorSection
from vlray.detect.weights.files import is_url, locate

ARCHITECTURES = ("GeneralizedRCNN", "PanopticFPN")
ZOO_PREFIX = "d2:"
"""Start of the names of model-zoo networks: ``d2:COCO-Detection/faster_rcnn_R_50_FPN_3x``."""
_SHIPPED_ZOO = Path(__file__).parent / "zoo"


def config_path(name: str) -> Path:
    """Find a configuration: a local file, a URL, or a name in Detectron2's model zoo.

    Raises:
        ValueError: There is no such configuration.
    """
    if name.startswith(ZOO_PREFIX):
        return _zoo_config(name)
    if is_url(name):
        return locate(name)
    path = Path(name).expanduser()
    if path.is_file():
        return path
    for zoo in _zoo_folders():
        if (zoo / name).is_file():
            return zoo / name
    raise ValueError(
        f"no configuration file {name!r} (looked for at {path.absolute()}), and Detectron2's model "
        "zoo has none of that name; more are in the official source: "
        "https://github.com/facebookresearch/detectron2/tree/main/configs"
    )


def config_files(path: Path) -> tuple[Path, ...]:
    """List a configuration file and its ``_BASE_`` files, in the order in which they are read.

    Raises:
        ValueError: One of the files is missing, is not a mapping, or requires code to be run.
    """
    return tuple(file for file, _ in read_chain(path))


def read_chain(path: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Read a configuration and its ``_BASE_`` files; earlier files override later ones.

    Raises:
        ValueError: As ``config_files``.
    """
    return _chain(path, ())


def weights_of(options: DetectorSection) -> str:
    """Return the weights to load: ``options.weights``, or else the configuration's weights.

    Raises:
        ValueError: Neither the options nor the configuration name weights.
    """
    if options.weights:
        return options.weights
    path = config_path(options.name)
    for zoo in _zoo_folders():
        if path.resolve().is_relative_to(zoo.resolve()):
            return _zoo_weights(path.resolve().relative_to(zoo.resolve()))
    for _, values in read_chain(path):
        if weights := (values.get("MODEL") or {}).get("WEIGHTS"):
            return str(weights)
    raise ValueError(
        f"{path} does not set MODEL.WEIGHTS, and an untrained network detects nothing; "
        "set detector.weights to a local file or a URL"
    )


def check_architecture(architecture: str, path: Path) -> None:
    """Refuse an architecture without a box head.

    Raises:
        ValueError: vlray cannot read regions from it; the message names the alternatives.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"{path}: the architecture {architecture} has no box head, and vlray reads each "
            f"region's vector from one; use a configuration of {' or '.join(ARCHITECTURES)}, "
            "or a class of your own, module:Class"
        )


def _zoo_folders() -> list[Path]:
    """List the folders of model-zoo configurations: vlray's own, and the installed Detectron2's.

    vlray's come first, so that a network keeps its identity whatever Detectron2 is installed. Does
    not import Detectron2.
    """
    spec = importlib.util.find_spec("detectron2")
    installed = (
        Path(location) / "model_zoo" / "configs"
        for location in (spec and spec.submodule_search_locations) or ()
    )
    return [_SHIPPED_ZOO, *(folder for folder in installed if folder.is_dir())]


def _zoo_config(name: str) -> Path:
    """Find the configuration of a ``d2:`` name; the ending ``.yaml`` may be missing.

    Raises:
        ValueError: The model zoo has no such configuration.
    """
    file = name.removeprefix(ZOO_PREFIX).removesuffix(".yaml") + ".yaml"
    for zoo in _zoo_folders():
        if (zoo / file).is_file() and ".." not in Path(file).parts:
            return zoo / file
    names = [
        path.relative_to(_SHIPPED_ZOO).with_suffix("").as_posix()
        for path in _SHIPPED_ZOO.glob("*/*.yaml")
    ]
    close = get_close_matches(file.removesuffix(".yaml"), names, n=3, cutoff=0.4) or sorted(names)
    raise ValueError(
        f"Detectron2's model zoo has no network {name!r} that vlray supports; there are "
        f"{', '.join(f'{ZOO_PREFIX}{close_name}' for close_name in close)}"
    )


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
            check_architecture(architecture[1], path)
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
