"""The published forms of one network's weights are told apart and give the same tensors."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.detect import vg_flavours as published
from vlray.detect.vg_checkpoint import VgCheckpoint, load_vg
from vlray.detect.weights import sha256

PREDICTOR = published.PREDICTOR
EXACT_BUT = ("objectness_logits", "bbox_pred")  # MILVLG's: a difference, and a factor


@pytest.fixture(scope="module")
def canonical() -> dict[str, Tensor]:
    return published.random_tensors()


@pytest.fixture(scope="module")
def tiny(canonical: dict[str, Tensor]) -> dict[str, Tensor]:
    return published.tiny(canonical)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a cache of its own; emptied at once, for the files are large."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path
    shutil.rmtree(tmp_path)


def converted(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "vlray" / "weights" / "converted").glob("*.safetensors"))


def assert_equal(found: VgCheckpoint, expected: dict[str, Tensor], milvlg: bool = False) -> None:
    assert found.tensors.keys() == expected.keys()
    for name, value in found.tensors.items():
        if milvlg and name.split(".")[-2] in EXACT_BUT:
            torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-6)
        else:
            assert torch.equal(value, expected[name]), name
        assert value.dtype == torch.float32


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_hugging_faces_weights_load(name: str, canonical: Any, folder: Path) -> None:
    path = published.write_hf(canonical, folder / name)
    found = load_vg(str(path))
    assert_equal(found, canonical)
    assert (found.flavour, found.has_attributes) == ("hf", True)
    assert (found.sha256, found.path) == (sha256(path), path)


def test_airsplays_weights_load(canonical: Any, folder: Path) -> None:
    found = load_vg(str(published.write_airsplay(canonical, folder / "faster_rcnn.pkl")))
    assert_equal(found, canonical)
    assert (found.flavour, found.has_attributes) == ("airsplay", True)


def test_milvlgs_weights_load_and_are_converted_only_once(canonical: Any, folder: Path) -> None:
    path = published.write_milvlg(canonical, folder / "bua-caffe-frcn-r101-k36.pth")
    first = load_vg(str(path))
    assert_equal(first, canonical, milvlg=True)
    assert (first.flavour, first.has_attributes) == ("milvlg", True)
    (place,) = converted(folder)
    made = place.stat().st_mtime_ns
    again = load_vg(str(path))
    assert_equal(again, first.tensors)
    assert (again.flavour, again.has_attributes) == ("milvlg", True)
    assert (again.sha256, again.path) == (sha256(path), path)
    assert [file.stat().st_mtime_ns for file in converted(folder)] == [made]
    elsewhere = folder / "anything.bin"
    place.rename(elsewhere)
    moved = load_vg(str(elsewhere))
    assert_equal(moved, first.tensors)
    assert (moved.flavour, moved.sha256) == ("canonical", sha256(elsewhere))
    assert converted(folder) == []
