"""Given boxes and grids of the Visual Genome detector, on photographs and random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import conv2d

import vlray
from vlray.detect import notebook
from vlray.regions.batch import RegionBatch

# Small, and few proposals: what is tested here does not depend on either. The same for all tests,
# so that the network is loaded a few times only.
SMALL = {
    "min_size": 160,
    "max_size": 240,
    "post_nms_topk": 20,
    "score_thresh": 1.0,  # few would be selected, if there were no minimum
    "max_boxes": 12,
    "batch_size": 8,
    "device": "cpu",
}
COFFEE = (400, 600)
WHOLE = np.array([[0, 0, COFFEE[1], COFFEE[0]]], np.float32)

Find = Callable[..., RegionBatch]


@pytest.fixture(scope="module")
def find(vg_weights_file: Path) -> Iterator[Find]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(vg_weights_file.parent / "cache of ways"))

        def find_regions(images: Any, preset: str = "vg-caffe", **options: Any) -> RegionBatch:
            values = SMALL | {"weights": str(vg_weights_file)} | options
            return vlray.find_regions(images, preset, **values)

        yield find_regions
    notebook._load.cache_clear()


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    return [skimage.data.coffee(), skimage.data.astronaut()]


def differences(one: RegionBatch, two: RegionBatch) -> np.ndarray:
    """Give the relative L2 distance of each region's vectors."""
    distance = np.linalg.norm(one.visual_feats - two.visual_feats, axis=1)
    return distance / np.linalg.norm(two.visual_feats, axis=1)


def test_boxes_of_vg_caffe_get_the_same_features_and_labels_again(
    find: Find, photographs: list[np.ndarray]
) -> None:
    found = find(photographs)
    again = find(photographs, boxes=[regions.boxes for regions in found])
    assert found.num_boxes.tolist() == [12, 12]
    assert again.boxes.tobytes() == found.boxes.tobytes()
    assert differences(again, found).max() < 1e-5
    np.testing.assert_array_equal(again.obj_ids, found.obj_ids)
    np.testing.assert_array_equal(again.attr_ids, found.attr_ids)
    np.testing.assert_allclose(again.obj_probs, found.obj_probs, rtol=1e-4)
    np.testing.assert_allclose(again.attr_probs, found.attr_probs, rtol=1e-4)


def test_given_boxes_keep_their_order_and_nothing_is_left_out(
    find: Find, photographs: list[np.ndarray]
) -> None:
    boxes = find(photographs[0]).boxes
    # Twins, parts of each other and the whole image: any suppression or limit would show.
    mixed = np.concatenate([boxes[::-1], boxes[:3], boxes[:3] + np.float32(0.25), boxes, WHOLE])
    found = find(photographs[0], boxes=mixed)
    assert found.boxes.tobytes() == mixed.tobytes()
    plain = find(photographs[0], boxes=boxes)
    np.testing.assert_allclose(
        found.visual_feats[:12], plain.visual_feats[::-1], rtol=1e-4, atol=1e-4
    )


def test_a_batch_changes_no_given_box(find: Find, photographs: list[np.ndarray]) -> None:
    images = [photographs[0], photographs[0][:, ::-1].copy(), photographs[0][::-1].copy()]
    boxes = [WHOLE, WHOLE / 2, np.concatenate([WHOLE / 4, WHOLE])]
    together = find(images, boxes=boxes)
    alone = RegionBatch.concat(
        [find(image, boxes=given) for image, given in zip(images, boxes, strict=True)]
    )
    assert together.num_boxes.tolist() == [1, 1, 2]
    assert differences(together, alone).max() < 1e-5
    np.testing.assert_array_equal(together.obj_ids, alone.obj_ids)


def test_boxes_of_vg_pbua_get_other_features_as_they_moved_after_pooling(
    find: Find, photographs: list[np.ndarray]
) -> None:
    found = find(photographs[0], "vg-pbua")
    again = find(photographs[0], "vg-pbua", boxes=found.boxes)
    assert again.boxes.tobytes() == found.boxes.tobytes()
    assert (differences(again, found) > 1e-3).mean() > 0.5


def as_map(found: RegionBatch, rows: int) -> Tensor:
    vectors = torch.tensor(found.visual_feats)
    return vectors.view(rows, -1, vectors.shape[1]).permute(2, 0, 1)[None]


def test_a_grid_of_res5_holds_the_papers_which_has_stride_2_and_no_dilation(
    find: Find, photographs: list[np.ndarray], vg_weights_file: Path
) -> None:
    c4 = as_map(find(photographs[0], features="grid", grid_layer="c4"), rows=10)
    res5 = as_map(find(photographs[0], features="grid"), rows=10)
    assert (c4.shape, res5.shape) == ((1, 1024, 10, 15), (1, 2048, 10, 15))
    papers = last_stage(load_file(vg_weights_file), c4)
    error = (res5[..., ::2, ::2] - papers).norm(dim=1) / papers.norm(dim=1)
    assert error.max() < 1e-4


def last_stage(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Run res5 as the paper does for grids: stride 2 in its first block, dilation 1."""

    def conv(name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        y = conv2d(x, weights[f"{name}.weight"], None, stride, padding)
        norm = {key: weights[f"{name}.norm.{key}"] for key in ("weight", "bias")}
        mean, var = (weights[f"{name}.norm.running_{key}"] for key in ("mean", "var"))
        return torch.nn.functional.batch_norm(y, mean, var, **norm, eps=1e-5)

    for block in range(3):
        name, stride = f"roi_heads.res5.{block}", 1 if block else 2
        y = conv(f"{name}.conv1", x, stride).relu()
        y = conv(f"{name}.conv3", conv(f"{name}.conv2", y, padding=1).relu())
        x = (y + (x if block else conv(f"{name}.shortcut", x, stride))).relu()
    return x


def test_a_grid_of_a_given_size_has_the_means_of_the_maps_parts(
    find: Find, photographs: list[np.ndarray]
) -> None:
    whole = as_map(find(photographs[0], features="grid", grid_layer="c4"), rows=10)
    found = find(photographs[0], features="grid", grid_layer="c4", grid_size=5)
    expected = whole.view(1, 1024, 5, 2, 5, 3).mean((3, 5))
    np.testing.assert_allclose(as_map(found, rows=5), expected, rtol=1e-4, atol=1e-5)
    height, width = COFFEE
    cells = [
        [width * x / 5, height * y / 5, width * (x + 1) / 5, height * (y + 1) / 5]
        for y in range(5)
        for x in range(5)
    ]
    np.testing.assert_allclose(found.boxes, cells, rtol=1e-6)
    assert found.obj_ids is None
    assert found.attr_ids is None


def test_info_tells_the_length_of_a_grids_vectors(find: Find, vg_weights_file: Path) -> None:
    values = SMALL | {"weights": str(vg_weights_file), "features": "grid"}
    info = vlray.detector_info("vg-caffe", **values)
    assert (info.feature_dim, info.obj_names, info.attr_names) == (2048, (), ())
    assert vlray.detector_info("vg-caffe", **values, grid_layer="c4").feature_dim == 1024
