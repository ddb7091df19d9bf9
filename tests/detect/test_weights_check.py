"""Weights that fit are told without torch; others are refused as the detector would refuse them."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.detect.vg_flavours import write_hf
from vlray.config.detector import DetectorSection
from vlray.detect.lite import WEIGHTS
from vlray.detect.load import check_weights
from vlray.detect.weights.files import sha256
from vlray.detect.weights.headers import converted_path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a cache of its own; emptied at once, for the files are large."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path
    shutil.rmtree(tmp_path)


def check(name: str, weights: Path) -> None:
    check_weights(DetectorSection(name=name, weights=str(weights)))


def check_without_torch(name: str, weights: Path) -> None:
    code = f"""
import sys
from vlray.config.detector import DetectorSection
from vlray.detect.load import check_weights
check_weights(DetectorSection(name={name!r}, weights={str(weights)!r}))
assert not {{"torch", "ray", "detectron2"}} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("processes")
def test_weights_of_lites_network_fit_with_classes_of_ones_own(folder: Path) -> None:
    check_without_torch("lite", WEIGHTS)
    tensors = load_file(WEIGHTS)
    predictor = "roi_heads.box_predictor.cls_score."
    for part in ("weight", "bias"):
        tensors[predictor + part] = tensors[predictor + part][-3:].contiguous()
    own = folder / "own.safetensors"
    save_file(tensors, own, {"obj_names": '["cat", "dog"]'})
    check_without_torch("lite", own)
    save_file(tensors, own, {"obj_names": '["cat"]'})  # where there are scores for two
    with pytest.raises(ValueError, match=r"2 tensors .* of the wrong shape, such as roi"):
        check("lite", own)
    tensors.pop(predictor + "bias")
    save_file(tensors, own, {"obj_names": '["cat", "dog"]'})
    with pytest.raises(ValueError, match=r"1 tensor missing, .*cls_score\.bias"):
        check("lite", own)


def test_published_weights_given_to_lite_are_answered_with_the_detectors_they_are_for(
    folder: Path,
) -> None:
    tensors = {"backbone.stem.conv1.weight": torch.zeros(1)}
    torch.save(tensors, folder / "pytorch_model.bin")
    save_file(tensors, folder / "model.safetensors")
    (folder / "faster_rcnn.pkl").write_bytes(pickle.dumps({"model": {}}))
    for name in ("pytorch_model.bin", "model.safetensors", "faster_rcnn.pkl"):
        with pytest.raises(ValueError, match=r"no weights for lite.*name vg-pbua or vg-caffe"):
            check("lite", folder / name)
    (folder / "page.safetensors").write_text("<!DOCTYPE html>")
    with pytest.raises(ValueError, match=r"no weights for lite \(Safe.*; use a file .* by jobs/"):
        check("lite", folder / "page.safetensors")
    with pytest.raises(ValueError, match="does not exist"):
        check("lite", folder / "nothing.safetensors")
    check_weights(DetectorSection(name="lite"))


@pytest.mark.usefixtures("processes")
def test_visual_genome_weights_are_converted_once(vg_weights_file: Path, folder: Path) -> None:
    check_without_torch("vg-caffe", vg_weights_file)  # vlray's own form
    path = write_hf(load_file(vg_weights_file), folder / "model.safetensors")
    check("vg-caffe", path)
    assert converted_path(sha256(path)).is_file()
    check_without_torch("vg-pbua", path)


def test_files_that_are_not_visual_genome_weights_are_refused_with_the_reason(folder: Path) -> None:
    (folder / "page.bin").write_text("<!DOCTYPE html>")
    with pytest.raises(ValueError, match=r"page\.bin is not a weights file, or it is damaged"):
        check("vg-caffe", folder / "page.bin")
    torch.save({"backbone.stem.conv1.weight": torch.zeros(1)}, folder / "other.pth")
    with pytest.raises(
        ValueError, match=r"other\.pth does not contain .*\n +missing .* \(529 tensors"
    ):
        check("vg-pbua", folder / "other.pth")
    with pytest.raises(ValueError, match=r"vg-pbua needs --detector\.weights"):
        check_weights(DetectorSection(name="vg-pbua"))
