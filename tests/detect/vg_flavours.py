"""Writes weights of the Visual Genome detector in the forms that others publish.

Each writer is the inverse of what vlray does, put down from the formats' own side.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

ANCHORS = "proposal_generator.anchor_generator.cell_anchors.0"
PREDICTOR = "roi_heads.box_predictor"


def centered_anchors() -> Tensor:
    """Give the anchors of Hugging Face's and airsplay's files: 64 to 512 pixels, size-major."""
    rows = []
    for size in (64.0, 128.0, 256.0, 512.0):
        for ratio in (0.5, 1.0, 2.0):
            width, height = (size**2 / ratio) ** 0.5, (size**2 * ratio) ** 0.5
            rows.append([-width / 2, -height / 2, width / 2, height / 2])
    return torch.tensor(rows)


def caffe_anchors() -> Tensor:
    """Give Caffe's table, ratio-major."""
    rows = []
    for width, height in ((23, 12), (16, 16), (11, 22)):
        for scale in (4, 8, 16, 32):
            x, y = (width * scale - 1) / 2, (height * scale - 1) / 2
            rows.append([7.5 - x, 7.5 - y, 7.5 + x, 7.5 + y])
    return torch.tensor(rows)


def hf_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add what Hugging Face's file has besides: anchors, and the batches that norms have seen."""
    counters = {
        name.replace("running_var", "num_batches_tracked"): torch.tensor(0)
        for name in tensors
        if name.endswith("running_var")
    }
    return {**tensors, **counters, ANCHORS: centered_anchors()}


def write_hf(tensors: Mapping[str, Tensor], path: Path) -> Path:
    """Write ``pytorch_model.bin`` or ``model.safetensors``, by the ending."""
    if path.suffix == ".safetensors":
        save_file(hf_tensors(tensors), path, {"format": "pt"})
    else:
        torch.save(hf_tensors(tensors), path)
    return path


def write_airsplay(tensors: Mapping[str, Tensor], path: Path, author: str = "") -> Path:
    """Write a pickle of arrays, as ``faster_rcnn_from_caffe_attr.pkl`` is one."""
    content: dict[str, object] = {"model": {name: t.numpy() for name, t in tensors.items()}}
    if author:
        content["__author__"] = author
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=4)
    return path


def milvlg_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reorder as MILVLG's caffe mode has it."""
    names = {"cls_embedding": "cls_embed", "fc_attr": "attr_linear1", "attr_score": "attr_linear2"}
    generator = torch.Generator().manual_seed(1)
    # Canonical row of each of MILVLG's anchors, which go through the sizes of one ratio first.
    order = [size * 3 + ratio for ratio in range(3) for size in range(4)]
    found = {}
    for name, value in tensors.items():
        *path, module, part = name.split(".")
        if module == "objectness_logits":  # background, foreground: only the difference matters
            background = torch.randn(value.shape, generator=generator)
            value = torch.cat([background, background + value[order]])
        elif module == "anchor_deltas":
            value = torch.cat([value[4 * a : 4 * a + 4] for a in order])
        elif module in ("cls_score", "cls_embedding", "attr_score"):
            value = torch.cat([value[-1:], value[:-1]])
        elif module == "bbox_pred":
            weights = torch.tensor([10.0, 10, 5, 5]).repeat(1600)
            foreground = value / weights.view(-1, *[1] * (value.dim() - 1))
            value = torch.cat([torch.full_like(value[:4], 9.0), foreground])
        found[".".join([*path, names.get(module, module), part])] = value
    return {**found, ANCHORS: caffe_anchors()}


def write_milvlg(tensors: Mapping[str, Tensor], path: Path, legacy: bool = True) -> Path:
    """Write a checkpoint of training, by default in the format of torch before 1.6."""
    content = {"model": milvlg_tensors(tensors), "iteration": 59999}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path
