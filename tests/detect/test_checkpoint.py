"""Weights files: every format gives the same tensors, and none runs code or fits by half."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vlray.detect.d2.checkpoint import load_weights
from vlray.detect.lite import WEIGHTS
from vlray.detect.lite.weights import load_lite
from vlray.detect.weights.headers import read_header


class Network(nn.Module):
    """Two tensors, with names as Detectron2's networks have them."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"stem": nn.ModuleDict({"conv1": nn.Conv2d(3, 2, 1)})})

    @property
    def weight(self) -> torch.Tensor:
        return self.backbone["stem"]["conv1"].weight


NAMES = ("backbone.stem.conv1.weight", "backbone.stem.conv1.bias")
TENSORS = {NAMES[0]: torch.arange(6.0).view(2, 3, 1, 1), NAMES[1]: torch.ones(2)}
ARRAYS = {name: value.numpy() for name, value in TENSORS.items()}


class Evil:
    """Unpickles by leaving a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def save_pickle(value: Any, path: Path, protocol: int = 2) -> None:
    with path.open("wb") as file:
        pickle.dump(value, file, protocol=protocol)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: {"model": x, "optimizer": {"lr": 0.1}, "iteration": 5},
        lambda x: OrderedDict(state_dict=OrderedDict(x)),
    ],
)
def test_torch_files_load_however_they_are_wrapped(wrap: Any, prefix: str, tmp_path: Path) -> None:
    path, network = tmp_path / "model.pth", Network()
    torch.save(wrap({prefix + name: value for name, value in TENSORS.items()}), path)
    load_weights(network, path)
    assert torch.equal(network.weight, TENSORS[NAMES[0]])


def test_arrays_in_a_torch_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"model": TENSORS, "best": np.float64(0.5)}, path)
    with pytest.raises(ValueError, match=r"more than tensors \(numpy.*save only its tensors"):
        load_weights(Network(), path)


def test_safetensors_load(tmp_path: Path) -> None:
    path, network = tmp_path / "model.safetensors", Network()
    save_file(TENSORS, path)
    load_weights(network, path)
    assert torch.equal(network.weight, TENSORS[NAMES[0]])


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(
    "content",
    [
        {"model": ARRAYS, "__author__": "Detectron2 Model Zoo"},
        {  # names without their beginning, matched by their end
            "model": {"stem.conv1.weight": ARRAYS[NAMES[0]], "stem.conv1.bias": ARRAYS[NAMES[1]]},
            "__author__": "torchvision",
            "matching_heuristics": True,
        },
        {  # Caffe2's: other names, and the optimizer's tensors among them
            "conv1_w": ARRAYS[NAMES[0]],
            "conv1_b": ARRAYS[NAMES[1]],
            "conv1_w_momentum": ARRAYS[NAMES[0]] * 0,
        },
        {"blobs": {"conv1_w": ARRAYS[NAMES[0]], "conv1_b": ARRAYS[NAMES[1]]}, "cfg": "TEST: {}"},
    ],
    ids=["zoo", "matched", "caffe2", "caffe2-detection"],
)
def test_detectron2s_pickles_load(content: dict[str, Any], protocol: int, tmp_path: Path) -> None:
    path, network = tmp_path / "model.pkl", Network()
    save_pickle(content, path, protocol)
    load_weights(network, path)
    assert torch.equal(network.weight, TENSORS[NAMES[0]])


def test_a_pickle_of_python_2_loads(tmp_path: Path) -> None:
    path, network = tmp_path / "model.pkl", Network()
    save_pickle({"model": ARRAYS, "__author__": "me"}, path, protocol=2)
    data = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    path.write_bytes(data)
    load_weights(network, path)
    assert torch.equal(network.weight, TENSORS[NAMES[0]])


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".bin"])
def test_a_file_that_would_run_code_is_refused(suffix: str, tmp_path: Path) -> None:
    path, trace = tmp_path / f"model{suffix}", tmp_path / "trace"
    content = {"model": ARRAYS, "__author__": "me", "extra": Evil(trace)}
    if suffix == ".pkl":
        save_pickle(content, path)
    else:
        torch.save(content | {"model": TENSORS}, path)
    with pytest.raises(ValueError, match=r"more than tensors \(posix\.mkdir\)"):
        load_weights(Network(), path)
    assert not trace.exists()


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", bytes(300)])
def test_a_damaged_file_is_named(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"broken\{suffix}.*(damaged|holds|is not a weights file)"
    ):
        load_weights(Network(), path)


def test_something_else_than_tensors_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"epoch": 3, "weights": TENSORS}, path)
    with pytest.raises(ValueError, match=r"epoch is of type int; .*under \"model\""):
        load_weights(Network(), path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="contains a list, not a mapping"):
        load_weights(Network(), path)


def test_tensors_that_do_not_fit_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({NAMES[0]: torch.ones(5, 3, 1, 1), "neck.weight": torch.ones(2)}, path)
    with pytest.raises(ValueError, match="do not fit") as error:
        load_weights(Network(), path)
    message = str(error.value)
    assert "backbone.stem.conv1.weight (5, 3, 1, 1), but the network has (2, 3, 1, 1)" in message
    assert "missing from the file (1 tensor): backbone.stem.conv1.bias" in message
    assert "not part of the network (1 tensor): neck.weight" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({name: tensor * value for name, tensor in TENSORS.items()}, path)
    with pytest.raises(ValueError, match=r"NaN or infinite values in 2 tensors, such as backbone"):
        load_weights(Network(), path)


def test_weights_of_lite_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path, tensors = tmp_path / "lite.safetensors", load_file(WEIGHTS)
    tensors["roi_heads.box_head.fc1.bias"][0] = float("nan")
    save_file(tensors, path, read_header(WEIGHTS)[0])
    with pytest.raises(ValueError, match=r"in 1 tensor, such as roi_heads\.box_head\.fc1\.bias"):
        load_lite(path)


def test_long_lists_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(TENSORS | {f"neck.{index}": torch.ones(1) for index in range(20)}, path)
    with pytest.raises(ValueError, match=r"not part .*20 tensors.* and 12 more"):
        load_weights(Network(), path)


def test_unused_tensors_of_older_files_are_ignored(tmp_path: Path) -> None:
    path, network = tmp_path / "model.safetensors", Network()
    nothing = (
        "pixel_mean",
        "pixel_std",
        "proposal_generator.anchor_generator.cell_anchors.0",
        "backbone.stem.conv1.norm.num_batches_tracked",
        "roi_heads.mask_head.predictor.weight",
        "roi_heads.keypoint_head.score_lowres.weight",
    )
    save_file(TENSORS | {name: torch.ones(1) for name in nothing}, path)
    load_weights(network, path)
    assert torch.equal(network.weight, TENSORS[NAMES[0]])
