"""Detectron2 networks of every kind against Detectron2's own inference, on photographs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# isort: off
import vlray.detect.d2.compat  # noqa: F401  before detectron2
# isort: on

import numpy as np
import pytest
import skimage.data
import torch
import yaml
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference
from detectron2.structures import Instances

from tests.detect.detectron_networks import FEATURE_DIMS, KINDS, Network, write_network
from vlray.config.detector import DetectorSection
from vlray.detect.d2.detector import Detectron
from vlray.detect.weights.files import sha256
from vlray.images.resize import ResizeShortestEdge

Write = Callable[..., Network]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    return lambda kind, **values: write_network(tmp_path_factory.mktemp(kind), kind, **values)


@pytest.fixture(scope="module", params=KINDS)
def network(request: pytest.FixtureRequest, write: Write) -> Network:
    return write(request.param)


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    """Three photographs of one size, BGR."""
    crops = (
        skimage.data.astronaut()[20:320, 60:460],
        skimage.data.coffee()[60:360, 100:500],
        skimage.data.chelsea()[:300, 40:440],
    )
    return [np.ascontiguousarray(crop[:, :, ::-1]) for crop in crops]


@dataclass(frozen=True)
class Expected:
    """What Detectron2 says of one image, and the vectors behind it."""

    instances: Instances
    visual_feats: torch.Tensor


def detectron2s_own(
    network: Network, image: np.ndarray, hw: tuple[int, int], options: DetectorSection
) -> Expected:
    """Run Detectron2 as its users do; watch which vectors its predictor and pooler meet."""
    cfg = get_cfg()
    cfg.merge_from_file(str(network.config))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = options.score_thresh
    cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = options.nms_thresh or 0.5
    cfg.TEST.DETECTIONS_PER_IMAGE = options.max_boxes
    cfg.MODEL.MASK_ON = False
    model = build_model(cfg).eval()
    DetectionCheckpointer(model).load(str(network.weights))
    heads = model.roi_heads
    pooler = heads.pooler if cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeads" else heads.box_pooler
    predictors = heads.box_predictor
    if not isinstance(predictors, torch.nn.ModuleList):
        predictors = [predictors]
    pooled_boxes, vectors, logits, deltas = [], [], [], []

    def watch(_: object, inputs: Any, outputs: Any) -> None:
        vectors.append(inputs[0])
        logits.append(outputs[0])
        deltas.append(outputs[1])

    pooler.register_forward_hook(lambda _, inputs, __: pooled_boxes.append(inputs[1][0].tensor))
    for predictor in predictors:
        predictor.register_forward_hook(watch)
    with torch.no_grad():
        tensor = torch.tensor(image).permute(2, 0, 1).float()
        instances = model([{"image": tensor, "height": hw[0], "width": hw[1]}])[0]["instances"]
    boxes = predictors[-1].box2box_transform.apply_deltas(deltas[-1], pooled_boxes[-1])
    scores = torch.stack([stage.softmax(-1) for stage in logits]).mean(0)
    _, kept = fast_rcnn_inference(
        [boxes], [scores], [image.shape[:2]],
        options.score_thresh, options.nms_thresh or 0.5, options.max_boxes,
    )  # fmt: skip
    return Expected(instances, vectors[-1][kept[0]].flatten(1))


def test_boxes_and_vectors_are_detectron2s_own(
    network: Network, photographs: list[np.ndarray]
) -> None:
    # Above one half only one class of a proposal can score: there both rules keep the same. (And
    # Detectron2 counts boxes without area before it drops them, hence more than there can be.)
    options = network.options(score_thresh=0.5, nms_thresh=0.4, min_boxes=0, max_boxes=60)
    resize, detector = Detectron.resize(options), Detectron(options)
    for photograph in photographs:
        image, hw = resize(photograph), photograph.shape[:2]
        expected = detectron2s_own(network, image, hw, options)
        found = detector([image], np.array([hw], np.int32))
        assert len(expected.instances) == found.num_boxes[0] > 3
        np.testing.assert_allclose(
            found.boxes, expected.instances.pred_boxes.tensor, rtol=1e-5, atol=1e-4
        )
        np.testing.assert_array_equal(found.obj_ids, expected.instances.pred_classes)
        np.testing.assert_allclose(found.obj_probs, expected.instances.scores, rtol=1e-5)
        np.testing.assert_allclose(found.visual_feats, expected.visual_feats, rtol=1e-5, atol=1e-5)


def test_a_batch_changes_no_region(network: Network, photographs: list[np.ndarray]) -> None:
    options = network.options(min_boxes=10, max_boxes=20)
    resize, detector = Detectron.resize(options), Detectron(options)
    images = [resize(photograph) for photograph in photographs]
    hw = np.array([(300, 400)] * 3, np.int32)
    together = list(detector(images, hw))
    for image, regions in zip(images, together, strict=True):
        alone = detector([image], hw[:1])
        np.testing.assert_array_equal(alone.num_boxes, regions.num_boxes)
        np.testing.assert_array_equal(alone.obj_ids, regions.obj_ids)
        np.testing.assert_allclose(alone.boxes, regions.boxes, rtol=1e-4, atol=1e-2)
        np.testing.assert_allclose(alone.visual_feats, regions.visual_feats, rtol=1e-4, atol=5e-4)
        assert detector([image], hw[:1]).boxes.tobytes() == alone.boxes.tobytes()


def test_images_of_several_sizes_are_refused_rather_than_padded(write: Write) -> None:
    detector = Detectron(write("FPN").options())
    images = [np.zeros((128, 160, 3), np.uint8), np.zeros((128, 161, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"\(128, 160, 3\), \(128, 161, 3\).*group them by size"):
        detector(images, np.array([(128, 160), (128, 161)], np.int32))


def test_boxes_fill_up_to_min_boxes_and_stay_inside_the_original_image(
    network: Network, photographs: list[np.ndarray]
) -> None:
    options = network.options(min_boxes=12, max_boxes=12, score_thresh=1.0)
    image = Detectron.resize(options)(photographs[0])
    image.flags.writeable = False  # as Ray hands them out
    found = Detectron(options)([image], np.array([(300, 400)], np.int32))
    assert found.num_boxes.tolist() == [12]
    assert found.visual_feats.shape == (12, FEATURE_DIMS[network.config.stem])
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [400, 300, 400, 300]).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert (found.boxes[:, 2:] > [170, 128]).any()  # they are of the original, not the resized one


def test_rgb_configurations_see_rgb(write: Write, photographs: list[np.ndarray]) -> None:
    bgr = write("C4")
    mean = [123.675, 116.28, 103.53]
    rgb = write("C4", INPUT={"FORMAT": "RGB"})
    values = yaml.safe_load(rgb.config.read_text())
    values["MODEL"] |= {"PIXEL_MEAN": mean}
    rgb.config.write_text(yaml.safe_dump(values))
    values = yaml.safe_load(bgr.config.read_text())
    values["MODEL"] |= {"PIXEL_MEAN": mean[::-1]}
    bgr.config.write_text(yaml.safe_dump(values))
    weights = torch.load(bgr.weights)["model"]
    weights["backbone.stem.conv1.weight"] = weights["backbone.stem.conv1.weight"].flip(1)
    torch.save({"model": weights}, rgb.weights)
    image, hw = photographs[1][:150, :150], np.array([(150, 150)], np.int32)
    one, two = Detectron(bgr.options())([image], hw), Detectron(rgb.options())([image], hw)
    np.testing.assert_array_equal(one.obj_ids, two.obj_ids)
    np.testing.assert_allclose(one.boxes, two.boxes, atol=1e-2)
    np.testing.assert_allclose(one.visual_feats, two.visual_feats, rtol=1e-3, atol=1e-3)


def test_resizing_follows_the_configuration_unless_options_say_otherwise(write: Write) -> None:
    network = write("DC5")
    assert Detectron.resize(network.options()) == ResizeShortestEdge(128, 170)
    wanted = network.options(min_size=64, max_size=96)
    assert Detectron.resize(wanted) == ResizeShortestEdge(64, 96)
    as_it_is = write("C4", INPUT={"MIN_SIZE_TEST": 0})
    with pytest.raises(ValueError, match=r"set detector\.min_size"):
        Detectron.resize(as_it_is.options())


def test_info_says_what_made_the_regions(network: Network) -> None:
    info = Detectron(network.options()).info
    assert info.name == network.config.stem
    assert info.feature_dim == FEATURE_DIMS[info.name]
    assert info.weights_sha256 == sha256(network.weights)
    if info.name == "conv_head":  # five classes, so they are not COCO's
        assert info.obj_names == ("class 0", "class 1", "class 2", "class 3", "class 4")
    else:
        assert (len(info.obj_names), info.obj_names[0]) == (80, "person")


def test_classes_can_be_named(write: Write) -> None:
    network = write("conv_head")
    named = network.options(options={"obj_names": ["a", "b", "c", "d", "e"]})
    assert Detectron(named).info.obj_names == ("a", "b", "c", "d", "e")
    with pytest.raises(ValueError, match=r"lists 1 names, but .*NUM_CLASSES=5"):
        Detectron(network.options(options={"obj_names": ["a"]}))
    with pytest.raises(ValueError, match=r"unknown detector\.options .*: labels;"):
        Detectron(network.options(options={"labels": ["a"]}))


def test_weights_default_to_the_configurations_own(write: Write) -> None:
    network = write("conv_head")
    values = yaml.safe_load(network.config.read_text())
    values["MODEL"] |= {"WEIGHTS": str(network.weights)}
    network.config.write_text(yaml.safe_dump(values))
    info = Detectron(network.options(weights="")).info
    assert info.weights_sha256 == sha256(network.weights)


def test_weights_of_other_classes_are_refused(write: Write) -> None:
    five, eighty = write("conv_head"), write("FPN")
    with pytest.raises(ValueError, match="do not fit the configuration") as error:
        Detectron(five.options(weights=str(eighty.weights)))
    assert "cls_score.weight (81, 48), but the network has (6, 392)" in str(error.value)
    assert "MODEL.ROI_HEADS.NUM_CLASSES" in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"MODEL": {"META_ARCHITECTURE": "RetinaNet"}}, "architecture RetinaNet has no box head"),
        ({"MODEL": {"ROI_HEADS": {"NAME": "RROIHeads"}}}, "not RROIHeads"),
        (
            {"MODEL": {"PROPOSAL_GENERATOR": {"NAME": "PrecomputedProposals"}}},
            "NAME is PrecomputedProposals",
        ),
        ({"MODEL": {"BACKBONES": {}}}, r"not a Detectron2 configuration: [\s\S]*MODEL.BACKBONES"),
    ],
)
def test_networks_without_a_usable_box_head_are_refused_by_name(
    values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=message):
        Detectron.resize(DetectorSection(name=str(config)))


def test_a_panoptic_network_is_its_box_head(write: Write, photographs: list[np.ndarray]) -> None:
    plain, panoptic = write("FPN"), write("FPN")
    values = yaml.safe_load(panoptic.config.read_text())
    values["MODEL"] |= {"META_ARCHITECTURE": "PanopticFPN"}
    panoptic.config.write_text(yaml.safe_dump(values))
    weights = torch.load(plain.weights)["model"]
    torch.save({"model": weights | {"sem_seg_head.p2.0.weight": torch.ones(1)}}, panoptic.weights)
    image, hw = photographs[2][:128, :128], np.array([(128, 128)], np.int32)
    one, two = Detectron(plain.options())([image], hw), Detectron(panoptic.options())([image], hw)
    np.testing.assert_array_equal(one.visual_feats, two.visual_feats)


def test_fc6_is_the_layer_before_the_predictors_input(
    write: Write, photographs: list[np.ndarray]
) -> None:
    network = write("FPN")
    image, hw = photographs[0][:128, :128], np.array([(128, 128)], np.int32)
    fc6, fc7, pooled = (
        Detectron(network.options(features=f))([image], hw) for f in ("fc6", "fc7", "pooled")
    )
    np.testing.assert_array_equal(fc7.visual_feats, pooled.visual_feats)
    np.testing.assert_array_equal(fc6.boxes, pooled.boxes)
    weights = torch.load(network.weights)["model"]
    layer = [weights[f"roi_heads.box_head.fc2.{part}"] for part in ("weight", "bias")]
    expected = torch.nn.functional.linear(torch.from_numpy(fc6.visual_feats), *layer).relu()
    np.testing.assert_allclose(pooled.visual_feats, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="features=fc6 needs a box head with at least 1 fully"):
        Detectron(write("C4").options(features="fc6"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_cuda_is_refused(write: Write) -> None:
    with pytest.raises(ValueError, match="this process has no CUDA device"):
        Detectron(write("C4").options(device="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_finds_the_regions_that_a_cpu_finds(
    network: Network, photographs: list[np.ndarray]
) -> None:
    options = network.options(min_boxes=5, max_boxes=10)
    images = [Detectron.resize(options)(photograph) for photograph in photographs]
    hw = np.array([(300, 400)] * 3, np.int32)
    on_cpu = Detectron(options)(images, hw)
    on_gpu = Detectron(network.options(min_boxes=5, max_boxes=10, device="cuda"))(images, hw)
    np.testing.assert_array_equal(on_gpu.num_boxes, on_cpu.num_boxes)
    close = np.abs(on_gpu.boxes - on_cpu.boxes).max(1) < 0.5  # near ties may change places
    assert close.mean() > 0.8
