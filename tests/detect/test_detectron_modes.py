"""Given boxes and grids of Detectron2 networks, against Detectron2's own modules."""

from __future__ import annotations

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
from detectron2.structures import Boxes, Instances

from tests.detect.detectron_networks import KINDS, Network, write_network
from vlray.detect.d2.detector import Detectron
from vlray.detect.load import check_modes
from vlray.images.resize import ResizeShortestEdge

HW = np.array([(300, 400)], np.int32)
BOXES = np.array(
    [[250, 20.5, 399.5, 299], [0, 0, 400, 300], [30, 40, 31.5, 260], [120, 90, 260, 200]],
    np.float32,
)
SCALE = np.array([171 / 400, 128 / 300] * 2, np.float32)


@pytest.fixture(scope="module", params=KINDS)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Network:
    return write_network(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A photograph of 400 x 300 pixels at 171 x 128: not the same scale for both axes."""
    photograph = np.ascontiguousarray(skimage.data.coffee()[60:360, 100:500, ::-1])
    resized = ResizeShortestEdge(128, 171)(photograph)
    assert resized.shape == (128, 171, 3)
    return resized


def built(network: Network, **values: Any) -> Any:
    """Build the network as Detectron2's users do."""
    cfg = get_cfg()
    cfg.merge_from_file(str(network.config))
    cfg.MODEL.DEVICE, cfg.MODEL.MASK_ON = "cpu", False
    for name, value in values.items():
        cfg.merge_from_list([f"MODEL.{name.replace('__', '.')}", value])
    model = build_model(cfg).eval()
    DetectionCheckpointer(model).load(str(network.weights))
    return model


def test_given_boxes_get_the_vectors_of_detectron2s_precomputed_proposals(
    network: Network, image: np.ndarray
) -> None:
    found = Detectron(network.options()).pool_boxes([image], HW, [BOXES])
    model = built(network, PROPOSAL_GENERATOR__NAME="PrecomputedProposals")
    proposals = Instances((128, 171))
    proposals.proposal_boxes = Boxes(torch.tensor(BOXES * SCALE))
    proposals.objectness_logits = torch.zeros(len(BOXES))
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    predictor = model.roi_heads.box_predictor
    is_cascade = isinstance(predictor, torch.nn.ModuleList)
    predictor = predictor[0] if is_cascade else predictor
    predictor.register_forward_hook(
        lambda _, inputs, outputs: seen.append((inputs[0].flatten(1), outputs[0].softmax(1)))
    )
    tensor = torch.tensor(image).permute(2, 0, 1)
    with torch.no_grad():
        model([{"image": tensor, "proposals": proposals}])
    ((vectors, probs),) = seen
    np.testing.assert_array_equal(found.boxes, BOXES)
    assert found.num_boxes.tolist() == [len(BOXES)]
    if is_cascade:  # its later stages would move the boxes; only the first one's are those given
        with torch.no_grad():
            maps = model.backbone(model.preprocess_image([{"image": tensor}]).tensor)
            pooled = model.roi_heads.box_pooler(
                [maps[name] for name in model.roi_heads.in_features], [proposals.proposal_boxes]
            )
            vectors = model.roi_heads.box_head[-1](pooled)
    else:
        best, obj_ids = probs[:, :-1].max(1)
        np.testing.assert_array_equal(found.obj_ids, obj_ids)
        np.testing.assert_allclose(found.obj_probs, best, rtol=1e-5)
    np.testing.assert_allclose(found.visual_feats, vectors, rtol=1e-5, atol=1e-5)


def test_boxes_that_were_moved_after_pooling_have_other_vectors_when_given_back(
    network: Network, image: np.ndarray
) -> None:
    detector = Detectron(network.options(min_boxes=10, max_boxes=10))
    found = detector([image], HW)
    again = detector.pool_boxes([image], HW, [found.boxes])
    np.testing.assert_array_equal(again.boxes, found.boxes)
    difference = np.linalg.norm(again.visual_feats - found.visual_feats, axis=1)
    assert (difference > 1e-3 * np.linalg.norm(found.visual_feats, axis=1)).mean() > 0.5


def test_images_of_a_batch_keep_their_own_boxes(network: Network, image: np.ndarray) -> None:
    detector = Detectron(network.options())
    images, boxes = [image, image[:, ::-1], image], [BOXES[:1], BOXES[1:], BOXES[:3]]
    hw = np.repeat(HW, 3, axis=0)
    together = list(detector.pool_boxes(images, hw, boxes))
    for one, given, regions in zip(images, boxes, together, strict=True):
        alone = detector.pool_boxes([one], HW, [given])
        np.testing.assert_array_equal(regions.boxes, given)
        np.testing.assert_array_equal(regions.obj_ids, alone.obj_ids)
        np.testing.assert_allclose(regions.visual_feats, alone.visual_feats, rtol=1e-4, atol=5e-4)


@pytest.mark.parametrize("layer", ["c4", "res5"])
def test_a_grid_is_the_resnets_map_over_the_image_without_padding(
    network: Network, image: np.ndarray, layer: str
) -> None:
    options = network.options(features="grid", grid_layer=layer)
    check_modes(options, boxes_given=False)
    detector = Detectron(options)
    found = detector.grid([image], HW)
    # Without dilation, as in grid-feats-vqa: DC5 was trained with it.
    model = built(network, RESNETS__RES5_DILATION=1)
    resnet = getattr(model.backbone, "bottom_up", model.backbone)
    is_c4 = network.config.stem == "C4"
    with torch.no_grad():
        x = model.preprocess_image([{"image": torch.tensor(image).permute(2, 0, 1)}])
        x = resnet.stem(x.tensor[..., :128, :171])
        for stage in resnet.stages[: 3 if layer == "c4" else None]:
            x = stage(x)
        if is_c4 and layer == "res5":
            x = model.roi_heads.res5(x)
    expected = x[0].permute(1, 2, 0).flatten(0, 1)
    np.testing.assert_allclose(found.visual_feats, expected, rtol=1e-5, atol=1e-5)
    assert found.visual_feats.shape == (x.shape[2] * x.shape[3], detector.info.feature_dim)
    assert found.obj_ids is None
    # 16 pixels of the resized image to a cell, or 32.
    assert x.shape[2:] == ((8, 11) if layer == "c4" else (4, 6))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"BACKBONE": {"NAME": "build_swint_backbone"}}, "c4 and res5 of a ResNet"),
        (
            {"RESNETS": {"OUT_FEATURES": ["res3"]}, "ROI_HEADS": {"NAME": "StandardROIHeads"}},
            r"OUT_FEATURES=\['res3'\], so its network ends before detector.grid_layer=c4",
        ),
    ],
)
def test_networks_without_such_maps_are_refused_before_anything_is_loaded(
    model: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"VERSION": 2, "MODEL": model}))
    options = Network(config, tmp_path / "none").options(features="grid", grid_layer="c4")
    with pytest.raises(ValueError, match=message):
        check_modes(options, boxes_given=False)
