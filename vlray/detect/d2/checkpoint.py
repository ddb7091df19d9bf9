"""Load Detectron2's weights files completely, without running any code in them."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from safetensors.torch import load_file
from torch import Tensor, nn

from vlray.detect.weights.differences import refuse_differences
from vlray.detect.weights.finite import check_finite
from vlray.storage.pickles import ArrayUnpickler

# Tensors that may remain unused: heads that boxes and features do not need, normalization that the
# configuration defines, and counters of batch norms, which inference never reads.
_UNUSED_PREFIXES = (
    *("roi_heads.mask_head.", "roi_heads.keypoint_head.", "sem_seg_head."),
    "roi_heads.attribute_predictor.",  # grid-feats-vqa
)
_UNUSED_ENDINGS = ("num_batches_tracked", "pixel_mean", "pixel_std")


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a weights file into a network; the file must contain every tensor of the network.

    Args:
        model: A network built from the configuration.
        path: A safetensors file, a pickle from Detectron2 or Caffe2, or a file that ``torch.save``
            wrote; the format is detected from the content, not from the name.

    Raises:
        ValueError: The file is damaged, requires code to be run, has NaN or infinite values, or
            does not fit the network; the message lists the tensors that differ.
    """
    checkpoint = read_checkpoint(path)
    # Detectron2 can map the names and shapes in older files onto a network, but it loads the
    # tensors that fit and only warns about the rest. Its result is therefore checked below.
    result = DetectionCheckpointer(model)._load_model(checkpoint)
    unexpected = [name for name in result.unexpected_keys if not _is_unused(name)]
    missing = [name for name in result.missing_keys if not name.endswith("num_batches_tracked")]
    shapes = [
        f"{name} {tuple(in_file)}, but the network has {tuple(in_model)}"
        for name, in_file, in_model in result.incorrect_shapes
    ]
    # A tensor with the wrong shape is listed as such, not as missing too.
    missing = [n for n in missing if n not in {name for name, *_ in result.incorrect_shapes}]
    refuse_differences(
        path,
        shapes,
        missing,
        unexpected,
        "Use the weights that were trained with this configuration (if the box predictor has "
        "another shape, check MODEL.ROI_HEADS.NUM_CLASSES).",
    )
    check_finite(model.state_dict(), path)


def _is_unused(name: str) -> bool:
    return name.startswith(_UNUSED_PREFIXES) or name.endswith(_UNUSED_ENDINGS)


def read_tensors(path: Path) -> dict[str, Tensor | np.ndarray]:
    """Read the tensors in a weights file, with unchanged values and names.

    Args:
        path: As in ``load_weights``; the tensors may be under the key ``model`` or ``state_dict``.

    Raises:
        ValueError: The file is damaged, requires code to be run, or holds anything but tensors.
    """
    return _tensors(_open(path)[0], path)


def _is_safetensors(path: Path) -> bool:
    """Detect a safetensors file by its start: the length of a JSON header, and then ``{``."""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") + 8 <= path.stat().st_size


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a file into the form that Detectron2's checkpointer expects.

    Raises:
        ValueError: The file is damaged, requires code to be run, or holds anything but tensors.
    """
    data, is_pickle = _open(path)
    # As in Detectron2: any other pickle is from Caffe2, whose names need matching.
    if is_pickle and not ("model" in data and "__author__" in data):
        blobs = data.get("blobs", data)
        data = {
            "model": {name: v for name, v in blobs.items() if not name.endswith("_momentum")},
            "__author__": "Caffe2",
            "matching_heuristics": True,
        }
    checkpoint = {key: data[key] for key in ("__author__", "matching_heuristics") if key in data}
    return checkpoint | {"model": _tensors(data, path)}


def _open(path: Path) -> tuple[dict[str, Any], bool]:
    """Read a file in any supported format.

    Returns:
        The content, and whether the file is a pickle that torch did not write.
    """
    is_pickle = False
    try:
        if _is_safetensors(path):
            data: Any = load_file(path)
        elif zipfile.is_zipfile(path):
            data = _load_torch(path)
        else:
            with path.open("rb") as file:
                data = ArrayUnpickler(file, encoding="latin1").load()
            # Before torch 1.6, torch.save wrote several pickles, the first with a magic number.
            is_pickle = data != torch.serialization.MAGIC_NUMBER
            if not is_pickle:
                data = _load_torch(path)
    except OSError:
        raise
    except Exception as error:  # on a damaged file, these readers may raise any exception
        raise _unreadable(path, error) from error
    if not isinstance(data, dict):
        raise ValueError(
            f"{path} contains a {type(data).__name__}, not a mapping from names to tensors"
        )
    return data, is_pickle


def _load_torch(path: Path) -> Any:
    # Tensors only: torch's own unpickler would let NumPy read dtypes unchecked.
    return torch.load(path, map_location="cpu", weights_only=True)


def _tensors(data: dict[str, Any], path: Path) -> dict[str, Tensor | np.ndarray]:
    return _checked(next((data[key] for key in ("model", "state_dict") if key in data), data), path)


def _checked(tensors: Any, path: Path) -> dict[str, Tensor | np.ndarray]:
    values = tensors.items() if isinstance(tensors, dict) else [("its content", tensors)]
    for name, value in values:
        is_array = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
        if not (is_array or isinstance(value, Tensor)):
            raise ValueError(
                f"{path}: {name} is of type {type(value).__name__}; vlray expects a network's "
                'tensors by name, at the top of the file or under "model" or "state_dict"'
            )
    return dict(values)


def _unreadable(path: Path, error: Exception) -> ValueError:
    code = re.search(r"GLOBAL (\S+)", str(error))
    if code is None:
        return ValueError(f"{path} is not a weights file, or it is damaged: {error}")
    return ValueError(
        f"{path} contains more than tensors ({code[1].rstrip('.')}), and vlray never runs code "
        "from weights; if you trust the file, read it yourself and save only its tensors: "
        'torch.save({"model": tensors}, "model.pth")'
    )
