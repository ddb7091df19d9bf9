"""Convert the published forms of the Visual Genome detector's weights to a canonical form.

Files from Hugging Face and airsplay already have Detectron2's names and order. MILVLG's files keep
Caffe's layout: two logits per anchor, ratio-major anchors, the background first, and box deltas
that are not multiplied by ``BOX_WEIGHTS``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vlray.detect.visual_genome.shapes import (
    ANCHORS,
    BOX_WEIGHTS,
    OBJECTS,
    PIXEL_MEAN,
    RATIOS,
    SIZES,
    Shapes,
    attribute_shapes,
    caffe_anchors,
    canonical_shapes,
    d2_anchors,
)
from vlray.settings.wording import counted

Flavour = Literal["hf", "airsplay", "milvlg", "canonical"]

_LISTED = 8  # maximum number of tensor names in an error message
_MILVLG_NAMES = {
    "cls_embedding": "cls_embed",
    "fc_attr": "attr_linear1",
    "attr_score": "attr_linear2",
}
_MILVLG_ROWS = {"objectness_logits": 2 * ANCHORS, "bbox_pred": 4 * (OBJECTS + 1)}
_PIXELS = {"pixel_mean": PIXEL_MEAN, "pixel_std": (1.0, 1.0, 1.0)}
# Tensor names in other networks that were trained on the same data, and why they are refused.
_FOREIGN = {
    r"attribute_predictor\.": (
        "it belongs to MILVLG's d2 mode, whose attribute head and RoI pooling differ from those of "
        "the published features"
    ),
    r"(^|\.)stem\.norm\.|res5_bn\.": (
        "it belongs to MILVLG's ResNet-152, which normalizes before its convolutions; vlray has "
        "the ResNet-101"
    ),
}


def to_canonical(
    tensors: Mapping[str, Tensor | np.ndarray], source: str
) -> tuple[dict[str, Tensor], Flavour, bool]:
    """Convert the tensors in a published file to the canonical form.

    Args:
        tensors: Tensors, keyed by their names in the file.
        source: The file's name, for error messages.

    Returns:
        Contiguous float32 tensors with the names and shapes in ``canonical_shapes``; the published
        form; and whether there is an attribute head.

    Raises:
        ValueError: A tensor is missing or unexpected, or has the wrong shape; or the file belongs
            to another network.
    """
    flavour = _flavour_of(tensors, source)
    rest: dict[str, Tensor | np.ndarray] = {}
    buffers: dict[str, Tensor | np.ndarray] = {}
    for name, value in tensors.items():
        if not name.endswith("num_batches_tracked"):
            is_buffer = "anchor_generator.cell_anchors." in name or name in _PIXELS
            (buffers if is_buffer else rest)[name] = value
    with_attributes = any(_name_in(flavour, name) in rest for name in attribute_shapes())
    names = {name: _name_in(flavour, name) for name in canonical_shapes(with_attributes)}
    check_shapes(rest, _shapes_in(flavour, with_attributes), source)
    _check_buffers(buffers, flavour, source)
    canonical = {name: _float32(rest[name_in_file]) for name, name_in_file in names.items()}
    if flavour == "milvlg":
        canonical = {name: _from_milvlg(name, value) for name, value in canonical.items()}
    return canonical, flavour, with_attributes


def check_shapes(tensors: Mapping[str, Tensor | np.ndarray], expected: Shapes, source: str) -> None:
    """Check the tensors' names and shapes against the expected ones.

    Raises:
        ValueError: They differ; the message lists the differences.
    """
    problems = {
        "missing from the file": expected.keys() - tensors.keys(),
        "not part of the network": tensors.keys() - expected.keys(),
        "wrong shape": [
            f"{name} {tuple(tensors[name].shape)} instead of {shape}"
            for name, shape in expected.items()
            if name in tensors and tuple(tensors[name].shape) != shape
        ],
    }
    if any(problems.values()):
        raise ValueError(
            f"{source} does not contain the Visual Genome Faster R-CNN with ResNet-101:\n  "
            + "\n  ".join(_listed(problem, names) for problem, names in problems.items() if names)
            + "\nUse unc-nlp/frcnn-vg-finetuned, a faster_rcnn_from_caffe*.pkl of "
            "py-bottom-up-attention or a bua-caffe-frcn-r101*.pth of MILVLG, exactly as published."
        )


def _listed(problem: str, names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{problem} ({counted(len(names), 'tensor')}): {', '.join(names[:_LISTED])}{more}"


def _flavour_of(tensors: Mapping[str, Tensor | np.ndarray], source: str) -> Flavour:
    """Detect the published form from the tensors' names, shapes and types.

    Raises:
        ValueError: The tensors belong to another network.
    """
    for pattern, why in _FOREIGN.items():
        if name := next((name for name in tensors if re.search(pattern, name)), None):
            raise ValueError(f"{source} cannot be loaded: {why} (tensor {name})")
    # Number of rows of each weight, keyed by the module's name.
    rows = {name.split(".")[-2]: len(v) for name, v in tensors.items() if name.endswith(".weight")}
    if any(rows.get(part) == count for part, count in _MILVLG_ROWS.items()) or any(
        part in rows for part in _MILVLG_NAMES.values()
    ):
        return "milvlg"
    # Both have the same names; airsplay pickled NumPy arrays, Hugging Face saved tensors.
    arrays = all(isinstance(value, np.ndarray) for value in tensors.values())
    return "airsplay" if arrays else "hf"


def _name_in(flavour: Flavour, name: str) -> str:
    """Return a canonical tensor's name in a published form."""
    if flavour != "milvlg":
        return name
    *path, module, part = name.split(".")
    return ".".join([*path, _MILVLG_NAMES.get(module, module), part])


def _shapes_in(flavour: Flavour, with_attributes: bool) -> Shapes:
    """Return the shapes that a file in a published form must have, keyed by tensor name."""
    shapes = {
        _name_in(flavour, name): shape for name, shape in canonical_shapes(with_attributes).items()
    }
    if flavour == "milvlg":
        for name, (rows, *others) in shapes.items():
            shapes[name] = (_MILVLG_ROWS.get(name.split(".")[-2], rows), *others)
    return shapes


def _check_buffers(
    buffers: Mapping[str, Tensor | np.ndarray], flavour: Flavour, source: str
) -> None:
    """Check that a file's anchors and pixel normalization are those that this network uses.

    Raises:
        ValueError: They differ, so the weights were trained with other values.
    """
    anchors = caffe_anchors() if flavour == "milvlg" else d2_anchors()
    for name, value in buffers.items():
        expected = np.array(_PIXELS.get(name, anchors))
        actual = _float32(value).numpy()
        if name in _PIXELS:
            actual = actual.reshape(-1)
        if actual.shape != expected.shape or not np.allclose(
            actual, expected, rtol=1e-3, atol=1e-2
        ):
            raise ValueError(
                f"{source}: {name} {list(actual.shape)} begins with {_first(actual)}, but in the "
                f"published networks {name} {list(expected.shape)} begins with "
                f"{_first(expected)}; this network would predict wrong boxes here, use published "
                "weights"
            )


def _first(values: np.ndarray) -> list[float]:
    return [round(float(value), 2) for value in values.reshape(-1)[:4]]


def _float32(value: Tensor | np.ndarray) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach().to(torch.float32).contiguous()
    return torch.from_numpy(np.array(value, np.float32))  # a copy: unpickled arrays are read-only


def _from_milvlg(name: str, value: Tensor) -> Tensor:
    """Reorder the rows of a weight or bias from Caffe's order to Detectron2's."""
    # Row a of the canonical anchors has size a // 3 and ratio a % 3; Caffe's are ratio-major.
    order = torch.arange(ANCHORS).view(len(RATIOS), SIZES).T.flatten()
    match name.split(".")[-2]:
        case "objectness_logits":  # the softmax of two logits is the sigmoid of their difference
            return (value[ANCHORS:] - value[:ANCHORS])[order]
        case "anchor_deltas":
            return value.view(ANCHORS, 4, *value.shape[1:])[order].flatten(0, 1)
        case "cls_score" | "cls_embedding" | "attr_score":  # move the background to the end
            return value.roll(-1, 0)
        case "bbox_pred":  # the first four rows are the background's box, which is never used
            scale = torch.tensor(BOX_WEIGHTS * OBJECTS)
            return value[4:] * scale.view(-1, *[1] * (value.dim() - 1))
    return value
