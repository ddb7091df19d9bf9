"""The embedded detector on real photographs (scikit-image's, CC0 or public domain)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# isort: off
from vlray.detect.d2 import compat
from vlray.detect.lite import WEIGHTS
from vlray.detect.lite.detector import Lite
from vlray.detect.lite.model import BOX_HEAD_DIM, REFIT_ONLY, STAGE_SCALES, STAGES, STRIDES
from vlray.detect.lite.weights import read_weights
# isort: on

import torch
from safetensors.torch import load_file, save_file
from torchvision.ops import roi_align

from vlray.config.detector import DetectorSection
from vlray.detect.d2.features import normalized
from vlray.regions.batch import RegionBatch

data = pytest.importorskip("skimage.data", reason="scikit-image holds the photographs")


@pytest.fixture(scope="module")
def lite() -> Lite:
    return Lite(DetectorSection(device="cpu"))


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[:, :, ::-1])


def detect(lite: Lite, *images: np.ndarray) -> RegionBatch:
    resize = Lite.resize(DetectorSection())
    hw = np.array([image.shape[:2] for image in images], np.int32)
    return lite([resize(image) for image in images], hw)


def test_the_shipped_weights_are_small_half_precision_and_name_their_classes() -> None:
    weights, obj_names = read_weights(WEIGHTS)
    assert WEIGHTS.stat().st_size <= 8_000_000
    assert {value.dtype for value in load_file(WEIGHTS).values()} == {torch.float16}
    assert all(value.isfinite().all() for value in weights.values())
    assert len(obj_names) == 80
    assert (obj_names[0], obj_names[79]) == ("person", "toothbrush")
    assert not any(".blocks.6." in name for name in weights)  # ImageNet's share is not shipped


def test_lite_describes_itself(lite: Lite) -> None:
    assert lite.info.name == "lite"
    assert lite.info.feature_dim == 984
    assert len(lite.info.obj_names) == 80
    assert lite.info.attr_names == ()
    assert len(lite.info.weights_sha256) == 64


def test_it_finds_the_person_and_enough_regions(lite: Lite, astronaut: np.ndarray) -> None:
    found = detect(lite, astronaut)
    best = int(found.obj_probs.argmax())
    assert lite.info.obj_names[found.obj_ids[best]] == "person"
    assert found.obj_probs[best] > 0.5
    x1, y1, x2, y2 = found.boxes[best]  # of 512 x 512: she fills the left two thirds
    assert max(x1, y1) < 80
    assert 280 < x2 < 480
    assert y2 > 400
    assert found.num_boxes.tolist() == [36]
    assert found.visual_feats.shape == (36, 984)
    assert found.visual_feats.dtype == np.float32
    assert (found.visual_feats[:, :512] >= 0).all()  # the box head ends in a ReLU
    assert (found.visual_feats[:, 512:] < 0).any()  # the backbone's stages do not
    assert found.visual_feats.any(axis=1).all()


def test_a_given_box_around_the_cat_is_a_cat_and_stays_where_it_is(lite: Lite) -> None:
    image = np.ascontiguousarray(data.chelsea()[:, :, ::-1])
    boxes = np.array([[20, 5, 420, 299], [400, 0, 451, 60]], np.float32)
    hw = np.array([image.shape[:2]], np.int32)
    found = lite.pool_boxes([Lite.resize(DetectorSection())(image)], hw, [boxes])
    assert found.boxes.tobytes() == boxes.tobytes()
    assert found.visual_feats.shape == (2, 984)
    assert lite.info.obj_names[found.obj_ids[0]] == "cat"
    assert found.obj_probs[0] > 0.5 > found.obj_probs[1]


def test_vectors_end_with_the_means_of_the_backbones_stages(lite: Lite) -> None:
    image = Lite.resize(DetectorSection())(np.ascontiguousarray(data.chelsea()[:, :, ::-1]))
    boxes = np.array([[20, 5, 420, 299], [400, 0, 451, 60]], np.float32)
    found = lite.pool_boxes([image], np.array([image.shape[:2]], np.int32), [boxes])
    with torch.inference_mode():
        maps = lite.model.backbone(normalized(lite.model, [image])[0].tensor)
        means = [
            scale * roi_align(maps[stage], [torch.from_numpy(boxes)], 1, 1 / stride, 4, True)
            for stage, stride, scale in zip(STAGES, STRIDES, STAGE_SCALES, strict=False)
        ]
    expected = torch.cat(means, dim=1).flatten(1).numpy()
    np.testing.assert_allclose(found.visual_feats[:, BOX_HEAD_DIM:], expected, atol=1e-4)


def test_it_finds_the_cat(lite: Lite) -> None:
    found = detect(lite, np.ascontiguousarray(data.chelsea()[:, :, ::-1]))
    names = [lite.info.obj_names[index] for index in found.obj_ids]
    assert "cat" in names[:2]


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket"])
def test_boxes_lie_inside_the_original_image_and_have_an_area(lite: Lite, name: str) -> None:
    image = np.ascontiguousarray(getattr(data, name)()[:, :, ::-1])
    found = detect(lite, image)
    height, width = image.shape[:2]
    assert found.boxes.min() >= 0
    assert (found.boxes <= [width, height, width, height]).all()
    assert (found.boxes[:, :2] < found.boxes[:, 2:]).all()
    assert found.boxes[:, 2].max() > 0.7 * width  # scaled back: no pixels of the resized image
    assert set(found.obj_ids) <= set(range(80))
    assert 0 < found.obj_probs.min() <= found.obj_probs.max() <= 1


def test_the_same_image_gives_the_same_bits(lite: Lite, astronaut: np.ndarray) -> None:
    first, second = detect(lite, astronaut), detect(lite, astronaut)
    for column in ("boxes", "visual_feats", "obj_ids", "obj_probs"):
        np.testing.assert_array_equal(getattr(first, column), getattr(second, column))


def test_the_others_of_a_batch_do_not_change_an_image(lite: Lite, astronaut: np.ndarray) -> None:
    mirrored = np.ascontiguousarray(astronaut[:, ::-1])
    small = astronaut[:400]  # of another size: a call of its own
    together = list(detect(lite, astronaut, mirrored, small))
    assert [len(one.boxes) for one in together] == [36, 36, 36]
    for image, one in zip((astronaut, mirrored, small), together, strict=True):
        alone = detect(lite, image)
        np.testing.assert_allclose(one.boxes, alone.boxes, atol=0.05)
        np.testing.assert_allclose(one.visual_feats, alone.visual_feats, atol=1e-3)
        np.testing.assert_array_equal(one.obj_ids, alone.obj_ids)


def test_the_thresholds_decide_how_many_regions_there_are(astronaut: np.ndarray) -> None:
    strict = Lite(DetectorSection(device="cpu", score_thresh=0.9, min_boxes=3, max_boxes=50))
    assert 3 <= detect(strict, astronaut).num_boxes[0] < 36


def test_sizes_of_the_options_come_first() -> None:
    resize = Lite.resize(DetectorSection(min_size=320, max_size=400))
    assert resize.output_hw(480, 640) == (300, 400)
    assert min(Lite.resize(DetectorSection()).output_hw(480, 640)) != 300


def test_weights_of_ones_own_need_the_same_network(tmp_path: Path) -> None:
    weights, _ = read_weights(WEIGHTS)
    path = tmp_path / "own.safetensors"
    predictor = "roi_heads.box_predictor.cls_score."
    own = weights | {
        predictor + part: weights[predictor + part][-3:] for part in ("weight", "bias")
    }
    own.pop(REFIT_ONLY, None)  # files of jobs/train_lite.py do not have it
    save_file({n: v.contiguous() for n, v in own.items()}, path, {"obj_names": '["cat", "dog"]'})
    detector = Lite(DetectorSection(weights=str(path), device="cpu"))
    assert detector.info.obj_names == ("cat", "dog")

    own["extra"] = own.pop(predictor + "bias")
    save_file({n: v.contiguous() for n, v in own.items()}, path, {"obj_names": '["cat", "dog"]'})
    with pytest.raises(ValueError, match=r"2 tensors missing, unknown .* extra"):
        Lite(DetectorSection(weights=str(path), device="cpu"))

    path.write_bytes(b"not tensors")
    with pytest.raises(ValueError, match="contains no weights for lite"):
        Lite(DetectorSection(weights=str(path), device="cpu"))


def test_unknown_options_of_lite_are_refused() -> None:
    with pytest.raises(ValueError, match=r"remove topk"):
        Lite(DetectorSection(options={"topk": 3}))


@pytest.mark.usefixtures("processes")
def test_loading_lite_imports_neither_torchs_compiler_nor_timm() -> None:
    code = (
        "import sys, vlray.detect.lite.model\n"
        "slow = {'torch._dynamo', 'torch._dynamo.utils', 'sympy', 'timm', 'ray', 'pandas'}\n"
        "assert 'torchvision.ops' in sys.modules\n"
        "assert not slow & sys.modules.keys(), slow & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_placeholder_of_the_compiler_imports_it_when_it_is_used() -> None:
    placeholder = compat._LazyCompiler("colorsys")
    assert placeholder.rgb_to_hsv(1, 1, 1) == (0.0, 0.0, 1)
    assert not hasattr(placeholder, "__path__")
