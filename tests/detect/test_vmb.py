"""Networks of maskrcnn-benchmark: configuration, checkpoint, anchors, selection, features."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# isort: off
import vlray.detect.d2.compat
# isort: on

import numpy as np
import pytest
import skimage.data
import torch
import yaml
from torchvision.ops import nms

import vlray
from tests.detect import vmb_goldens
from tests.detect.vmb_networks import CONFIG, SIZES, Files, write_vmb
from vlray.config.detector import DetectorSection
from vlray.detect import notebook
from vlray.detect.load import check_modes, identify, settled
from vlray.detect.vmb.anchors import cell_anchors
from vlray.detect.vmb.config import is_vmb, read_layout
from vlray.detect.vmb.detector import Vmb
from vlray.detect.vmb.network import levels_of
from vlray.detect.vmb.regions import select
from vlray.detect.vmb.weights import load_vmb


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.coffee()[60:360, 100:500, ::-1])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, image: np.ndarray) -> Files:
    return write_vmb(tmp_path_factory.mktemp("vmb"), image)


def changed(folder: Path, **model: Any) -> Path:
    """Write the configuration with other values of MODEL."""
    values = CONFIG["MODEL"] | model
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"MODEL": values}))
    return path


def test_the_content_tells_the_kind_of_configuration(files: Files, tmp_path: Path) -> None:
    assert is_vmb(str(files.config))
    other = tmp_path / "d2.yaml"
    other.write_text("MODEL: {BACKBONE: {NAME: build_resnet_backbone}}\n")
    assert not is_vmb(str(other))
    assert not is_vmb(str(tmp_path / "gone.yaml"))
    assert identify(files.options())["target"] == "vlray.detect.vmb.detector:Vmb"


def test_a_hundred_boxes_are_the_default_for_these_networks_only(files: Files) -> None:
    options = settled(files.options())
    assert (options.min_boxes, options.max_boxes, options.nms_thresh) == (100, 100, 0.5)
    assert settled(options) == options
    assert settled(files.options(max_boxes=10)).max_boxes == 10
    assert settled(DetectorSection()).max_boxes == 36


def test_other_networks_are_refused_with_everything_that_differs(tmp_path: Path) -> None:
    path = changed(
        tmp_path,
        BACKBONE={"CONV_BODY": "R-152-C4"},
        RESNETS={"STAGE_WITH_DCN": "(False, False, True, True)"},
        ROI_BOX_HEAD={"PREDICTOR": "FastRCNNPredictor"},
    )
    with pytest.raises(ValueError, match="does not support") as error:
        read_layout(str(path))
    for part in ("R-152-C4", "--name vinvl", "RESNETS.STAGE_WITH_DCN", "FPNPredictor"):
        assert part in str(error.value)


def test_a_checkpoint_of_another_configuration_is_refused(files: Files, tmp_path: Path) -> None:
    path = changed(tmp_path, ROI_BOX_HEAD=CONFIG["MODEL"]["ROI_BOX_HEAD"] | {"NUM_CLASSES": 11})
    with pytest.raises(ValueError, match=r"cls_score\.weight \(21, 32\), but the network has \(11"):
        load_vmb(read_layout(str(path)), files.weights)


def test_anchors_are_those_of_py_faster_rcnn(files: Files) -> None:
    layout = read_layout(str(files.config))
    # Its table for base 16 and scale 8; stride 16 has size 128 here.
    tables = cell_anchors(layout)
    assert tables[2].tolist() == [[-84, -40, 99, 55], [-56, -56, 71, 71], [-36, -80, 51, 95]]
    assert [len(table) for table in tables] == [3] * 5


def test_large_boxes_are_pooled_from_coarse_levels() -> None:
    sides = torch.tensor([20, 111, 112, 223, 224, 447, 448, 2000.0])
    boxes = torch.stack([sides * 0, sides * 0, sides - 1, sides - 1], dim=1)
    assert levels_of(boxes, (0.25, 0.125, 0.0625, 0.03125)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_regions_are_selected_as_mmf_does() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 80, (60, 2))
    boxes = torch.from_numpy(np.hstack([corners, corners + rng.uniform(10, 60, (60, 2))])).float()
    probs = torch.from_numpy(rng.dirichlet(np.full(12, 0.3), 60)).float()
    confidence = torch.zeros(60)
    widened = boxes.double() + torch.tensor([0, 0, 1, 1])
    for scores in probs.T:
        keep = nms(widened, scores.double(), 0.5)
        confidence[keep] = torch.maximum(confidence[keep], scores[keep])
    order = confidence.argsort(descending=True)
    options = DetectorSection(min_boxes=25, max_boxes=25, nms_thresh=0.5)
    assert select(boxes, probs, options).tolist() == order[:25].tolist()
    everything = options.model_copy(update={"min_boxes": 60, "max_boxes": 60})
    survivors = int((confidence > 0).sum())
    assert select(boxes, probs, everything).tolist() == order[:survivors].tolist()


def test_features_are_fc6_or_fc7(files: Files, image: np.ndarray) -> None:
    hw = np.array([image.shape[:2]], np.int32)
    fc6, again, fc7 = (
        Vmb(settled(files.options(features=f)))([Vmb.resize(files.options())(image)], hw)
        for f in ("pooled", "fc6", "fc7")
    )
    assert 60 < fc6.num_boxes[0] <= 100
    np.testing.assert_array_equal(fc6.visual_feats, again.visual_feats)
    layer = load_vmb(read_layout(str(files.config)), files.weights).roi_heads["box"]
    inputs = torch.from_numpy(fc6.visual_feats)
    expected = layer.feature_extractor["fc7"](inputs).relu()
    np.testing.assert_allclose(fc7.visual_feats, expected, rtol=1e-4, atol=1e-5)
    probs = layer.predictor["cls_score"](expected).softmax(1)[:, 1:]
    np.testing.assert_array_equal(fc6.obj_ids, probs.argmax(1))


def test_own_boxes_get_the_same_features_again(files: Files, image: np.ndarray) -> None:
    options = settled(files.options())
    detector, hw = Vmb(options), np.array([image.shape[:2]], np.int32)
    pixels = [Vmb.resize(options)(image)]
    regions = detector(pixels, hw)
    height, width = image.shape[:2]
    inside = (regions.boxes < [width, height, width, height]).all(axis=1)
    assert inside.sum() > 20
    pooled = detector.pool_boxes(pixels, hw, [regions.boxes[inside]])
    np.testing.assert_allclose(
        pooled.visual_feats, regions.visual_feats[inside], rtol=1e-3, atol=1e-3
    )


def test_grid_features_and_other_options_are_refused(files: Files) -> None:
    with pytest.raises(ValueError, match="has no method grid"):
        check_modes(files.options(features="grid"), boxes_given=False)
    with pytest.raises(ValueError, match="fully connected"):
        check_modes(DetectorSection(features="fc6"), boxes_given=False)
    with pytest.raises(ValueError, match=r"lists 2 names, but .* has 20 classes"):
        Vmb(files.options(options={"obj_names": ["a", "b"]}))


def test_regions_are_the_golden_ones(files: Files, image: np.ndarray) -> None:
    batch = vlray.find_regions(
        image[:, :, ::-1], str(files.config), weights=str(files.weights), device="cpu", **SIZES
    )
    notebook._load.cache_clear()
    golden = json.loads(vmb_goldens.FILE.read_text())
    assert batch.num_boxes[0] == golden["num_boxes"]
    first = vmb_goldens.summary(batch)
    np.testing.assert_allclose(first["boxes"], golden["boxes"], atol=0.05)
    np.testing.assert_array_equal(first["obj_ids"], golden["obj_ids"])
    np.testing.assert_allclose(first["obj_probs"], golden["obj_probs"], atol=2e-3)
    np.testing.assert_allclose(first["norms"], golden["norms"], rtol=2e-3)
