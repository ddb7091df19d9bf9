"""The published forms of one network's weights are told apart and give the same tensors."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.detect import vg_flavours as published
from vlray.config.detector import DetectorSection
from vlray.detect.load import load_detector, resize_of
from vlray.detect.visual_genome.checkpoint import VgCheckpoint, load_vg
from vlray.detect.visual_genome.flavours import to_canonical
from vlray.detect.visual_genome.shapes import attribute_shapes, canonical_shapes
from vlray.detect.weights.files import sha256
from vlray.images.decode import as_bgr
from vlray.regions.batch import RegionBatch

PREDICTOR = published.PREDICTOR
EXACT_BUT = ("objectness_logits", "bbox_pred")  # MILVLG's: a difference, and a factor


@pytest.fixture(scope="module")
def canonical(vg_weights_file: Path) -> dict[str, Tensor]:
    return load_file(vg_weights_file)


@pytest.fixture(scope="module")
def photograph(photos: Path) -> np.ndarray:
    return as_bgr(photos / "coffee.png")


@pytest.fixture(scope="module")
def expected(vg_weights_file: Path, photograph: np.ndarray) -> RegionBatch:
    return regions(vg_weights_file, photograph)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a cache of its own; emptied at once, for the files are large."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path
    shutil.rmtree(tmp_path)


def converted(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "vlray" / "weights" / "converted").glob("*.safetensors"))


def regions(weights: Path, photograph: np.ndarray) -> RegionBatch:
    """Give the regions of a photograph at a small size; vg-pbua needs every tensor."""
    options = DetectorSection(
        name="vg-pbua",
        weights=str(weights),
        device="cpu",
        min_size=120,
        max_size=180,
        post_nms_topk=30,
        max_boxes=20,
    )
    resize = resize_of(options)
    assert resize is not None
    hw = np.array([photograph.shape[:2]], np.int32)
    return load_detector(options)([resize(photograph)], hw)


def assert_same_regions(found: RegionBatch, expected: RegionBatch) -> None:
    np.testing.assert_array_equal(found.num_boxes, expected.num_boxes)
    np.testing.assert_array_equal(found.obj_ids, expected.obj_ids)
    np.testing.assert_array_equal(found.attr_ids, expected.attr_ids)
    for one, two in (
        (found.boxes, expected.boxes),
        (found.obj_probs, expected.obj_probs),
        (found.attr_probs, expected.attr_probs),
        (found.visual_feats, expected.visual_feats),
    ):
        assert np.linalg.norm(one - two) <= 1e-5 * np.linalg.norm(two)


def assert_equal(found: VgCheckpoint, expected: dict[str, Tensor], milvlg: bool = False) -> None:
    assert found.tensors.keys() == expected.keys()
    for name, value in found.tensors.items():
        if milvlg and name.split(".")[-2] in EXACT_BUT:
            torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-6)
        else:
            assert torch.equal(value, expected[name]), name
        assert value.dtype == torch.float32


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_hugging_faces_weights_load(
    name: str, canonical: Any, folder: Path, photograph: np.ndarray, expected: RegionBatch
) -> None:
    path = published.write_hf(canonical, folder / name)
    found = load_vg(str(path))
    assert_equal(found, canonical)
    assert (found.flavour, found.has_attributes) == ("hf", True)
    assert (found.sha256, found.path) == (sha256(path), path)
    assert_same_regions(regions(path, photograph), expected)


def test_airsplays_weights_load(
    canonical: Any, folder: Path, photograph: np.ndarray, expected: RegionBatch
) -> None:
    path = published.write_airsplay(canonical, folder / "faster_rcnn.pkl")
    found = load_vg(str(path))
    assert_equal(found, canonical)
    assert (found.flavour, found.has_attributes) == ("airsplay", True)
    assert_same_regions(regions(path, photograph), expected)


def test_weights_without_attributes_give_the_same_regions_without_them(
    canonical: Any, folder: Path, photograph: np.ndarray, expected: RegionBatch
) -> None:
    less = {name: value for name, value in canonical.items() if name not in attribute_shapes()}
    path = published.write_airsplay(less, folder / "faster_rcnn_from_caffe.pkl", author="me")
    found = regions(path, photograph)
    assert (found.attr_ids, found.attr_probs) == (None, None)
    assert_same_regions(
        replace(found, attr_ids=expected.attr_ids, attr_probs=expected.attr_probs), expected
    )


def test_milvlgs_weights_load_and_are_converted_only_once(
    canonical: Any, folder: Path, photograph: np.ndarray, expected: RegionBatch
) -> None:
    path = published.write_milvlg(canonical, folder / "bua-caffe-frcn-r101-k36.pth")
    first = load_vg(str(path))
    assert_equal(first, canonical, milvlg=True)
    assert (first.flavour, first.has_attributes) == ("milvlg", True)
    assert_same_regions(regions(path, photograph), expected)
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


Tensors = dict[str, Any]
WRITERS: dict[str, Callable[[Tensors], Tensors]] = {
    "hf": published.hf_tensors,
    "airsplay": lambda tensors: {name: value.numpy() for name, value in tensors.items()},
    "milvlg": published.milvlg_tensors,
}


@pytest.fixture(scope="module")
def tiny() -> dict[str, Tensor]:
    """Shapes alone: one number for each tensor."""
    zero = torch.zeros(1)
    return {name: zero.expand(shape) for name, shape in canonical_shapes(True).items()}


@pytest.mark.parametrize("flavour", WRITERS)
def test_missing_and_unknown_tensors_are_listed(flavour: str, tiny: Tensors) -> None:
    tensors = WRITERS[flavour](tiny)
    assert to_canonical(tensors, "it")[1:] == (flavour, True)
    attribute = next(name for name in tensors if name.endswith(("fc_attr.bias", "linear1.bias")))
    for gone in ("backbone.res4.22.conv3.norm.running_var", attribute):
        rest = {name: value for name, value in tensors.items() if name != gone}
        with pytest.raises(ValueError, match=rf"missing .*\(1 tensor\): {re.escape(gone)}"):
            to_canonical(rest, "it")
    more = tensors | {"backbone.fc.weight": tensors[attribute]}
    with pytest.raises(ValueError, match=r"not part .*\(1 tensor\): backbone\.fc\.weight"):
        to_canonical(more, "it")
    name = f"{PREDICTOR}.cls_score.bias"
    with pytest.raises(ValueError, match=r"cls_score\.bias \(81,\) instead of \(1601,\)"):
        to_canonical(tensors | {name: tensors[name][:81]}, "it")


@pytest.mark.parametrize("flavour", ["hf", "milvlg"])
def test_other_anchors_than_the_published_ones_are_refused(flavour: str, tiny: Tensors) -> None:
    tensors = WRITERS[flavour](tiny)
    with pytest.raises(ValueError, match="would predict wrong boxes"):
        to_canonical(tensors | {published.ANCHORS: tensors[published.ANCHORS] * 1.1}, "it")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("backbone.stem.norm.weight", "ResNet-152"),
        ("attribute_predictor.attr_score.weight", "d2 mode"),
    ],
)
def test_milvlgs_other_networks_are_named(name: str, why: str, tiny: Tensors) -> None:
    with pytest.raises(ValueError, match=f"cannot be loaded: .*{why}"):
        to_canonical(published.milvlg_tensors(tiny) | {name: torch.zeros(1)}, "it")


class Evil:
    """Unpickles by leaving a folder behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.safetensors", "faster_rcnn.pkl", "bua-caffe-frcn.pth"]
)
def test_no_published_form_can_run_code(name: str, folder: Path) -> None:
    path, trace = folder / name, folder / "trace"
    content = {"model": {"backbone.stem.conv1.weight": torch.zeros(1)}, "extra": Evil(trace)}
    if name.endswith((".bin", ".pth")):
        torch.save(content, path, _use_new_zipfile_serialization=name.endswith(".bin"))
    else:  # the content tells what a file is, so the ending of a harmless one does not help
        content["model"] = {"backbone.stem.conv1.weight": np.zeros(1)}
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"more than tensors \(posix\.mkdir\)"):
        load_vg(str(path))
    assert not trace.exists()
    assert converted(folder) == []


def test_a_damaged_conversion_is_repeated(
    canonical: Any, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = published.write_hf(canonical, folder / "model.safetensors")
    load_vg(str(path))
    (place,) = converted(folder)
    whole = place.read_bytes()
    place.write_bytes(whole[: len(whole) // 2])
    assert_equal(load_vg(str(path)), canonical)
    assert "converting the weights again" in caplog.text
    assert place.stat().st_size == len(whole)


def test_weights_that_are_not_finite_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "faster_rcnn.pkl"
    path.write_bytes(b"converted before")
    tensors = {"rpn.weight": torch.tensor([1.0, float("nan")])}
    converted = VgCheckpoint(tensors, "airsplay", True, "0" * 64, path)
    monkeypatch.setattr("vlray.detect.visual_genome.checkpoint._from_cache", lambda *_: converted)
    with pytest.raises(ValueError, match=r"rcnn\.pkl has NaN or infinite values in 1 tensor"):
        load_vg(str(path))
