"""Read and check weights files for ``lite``, which ``jobs/train_lite.py`` writes."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vlray.detect.lite.model import REFIT_ONLY, build_lite, trained_names
from vlray.detect.weights.finite import check_finite
from vlray.detect.weights.headers import read_header
from vlray.settings.wording import counted


def read_weights(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Read a weights file for ``lite``, and return its tensors in float32 and its class names.

    Raises:
        ValueError: The file is damaged, or ``jobs/train_lite.py`` did not write it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            obj_names = tuple(json.loads((file.metadata() or {})["obj_names"]))
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} contains no weights for lite ({type(error).__name__}: {error}); "
            f"{_advice(path)}"
        ) from error
    return weights, obj_names


def _advice(path: Path) -> str:
    """Suggest which detector a file may belong to, judging by its format."""
    with path.open("rb") as file:
        is_pickle = file.read(1) == b"\x80"
    advice = "use a file written by jobs/train_lite.py, or leave detector.weights empty"
    if not (is_pickle or zipfile.is_zipfile(path) or read_header(path)[1]):
        return advice
    return (
        "for weights of the Visual Genome detector, pass --detector.name vg-pbua or vg-caffe; for "
        f"those of another Detectron2 network, pass its config.yaml; for lite, {advice}"
    )


def load_lite(path: Path) -> tuple[nn.Module, tuple[str, ...]]:
    """Build the network with the weights in a file, in evaluation mode.

    Returns:
        The network, and its class names.

    Raises:
        ValueError: The file is damaged, does not fit this network, or has NaN or infinite values.
    """
    weights, obj_names = read_weights(path)
    model = build_lite(len(obj_names))
    # Files of earlier versions lack this tensor, which is zero before jobs/refit_lite.py.
    weights.setdefault(REFIT_ONLY, model.state_dict()[REFIT_ONLY])
    _check_fit(path, weights, model.state_dict(), trained_names(model))
    check_finite(weights, path)
    model.load_state_dict(weights, strict=False)
    return model.eval(), obj_names


def _check_fit(
    path: Path, weights: dict[str, Tensor], expected: dict[str, Tensor], trained: set[str]
) -> None:
    """Check that a file holds exactly the trained tensors, with the right shapes.

    Raises:
        ValueError: A tensor is missing or unexpected, or has the wrong shape.
    """
    problems = sorted(
        name
        for name in weights.keys() | trained
        if name not in weights or name not in trained or weights[name].shape != expected[name].shape
    )
    if problems:
        raise ValueError(
            f"{path} does not fit lite's network: {counted(len(problems), 'tensor')} missing, "
            f"unknown or of the wrong shape, such as {problems[0]}; train the weights again with "
            "jobs/train_lite.py from this version"
        )
