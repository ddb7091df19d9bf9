"""Networks of grid-feats-vqa: attributes, deformable convolutions, stride."""

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
from detectron2.layers import DeformConv, ModulatedDeformConv
from detectron2.modeling import build_model
from torch.nn import functional

from tests.detect.detectron_networks import BASE, C4, DC5, Network
from vlray.config.detector import DetectorSection
from vlray.detect.d2.attributes import attach_attributes
from vlray.detect.d2.box_head import feature_dim_of
from vlray.detect.d2.config import load_config
from vlray.detect.d2.detector import Detectron
from vlray.regions.vocabulary import visual_genome_attributes, visual_genome_objects

HW = np.array([(300, 400)], np.int32)
KEYS: dict[str, Any] = {"ATTRIBUTE_ON": True, "MASK_ON": False}
DEFORMED = {"DEFORM_ON_PER_STAGE": [False, False, True, True]}
GRID = DC5 | {
    "RESNETS": DC5["RESNETS"] | BASE["MODEL"]["RESNETS"] | DEFORMED | {"NUM_GROUPS": 2},
    "ROI_HEADS": DC5["ROI_HEADS"] | {"NAME": "AttributeStandardROIHeads", "NUM_CLASSES": 1600},
}
UPDN = C4 | {"ROI_HEADS": {"NAME": "AttributeRes5ROIHeads", "NUM_CLASSES": 1600}}


def write(folder: Path, model: dict[str, Any]) -> Network:
    """Write a network with its attribute predictor; the convolutions' offsets are not zero."""
    (folder / "Base.yaml").write_text(yaml.safe_dump(BASE))
    config = folder / "network.yaml"
    dataset = {"TRAIN": ["visual_genome_train"], "TEST": ["visual_genome_test"]}
    values = {"_BASE_": "Base.yaml", "MODEL": KEYS | model, "DATASETS": dataset}
    config.write_text(yaml.safe_dump(values))
    cfg = load_config(DetectorSection(name=str(config)))
    cfg.MODEL.DEVICE = "cpu"
    torch.manual_seed(0)
    network = build_model(cfg)
    attach_attributes(network, cfg, feature_dim_of(network, "pooled"))
    for name, value in network.state_dict().items():
        if name.endswith("conv3.weight"):  # else 16 residual blocks add up to infinity
            value *= 0.3
        elif "conv2_offset" in name:
            value.copy_(torch.randn_like(value) * 0.02)
        elif name.endswith(("cls_score.weight", "attr_score.weight", "obj_embed.weight")):
            value.copy_(torch.randn_like(value) * 4 / value.shape[1] ** 0.5)
    torch.save({"model": network.state_dict()}, folder / "model.pth")
    return Network(config, folder / "model.pth")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.coffee()[60:188, 100:260, ::-1])


@pytest.mark.parametrize("model", [UPDN, GRID], ids=["updn", "grid"])
def test_regions_have_the_best_attribute_for_their_class(
    model: dict[str, Any], tmp_path: Path, image: np.ndarray
) -> None:
    network = write(tmp_path, model)
    detector = Detectron(network.options())
    info, regions = detector.info, detector([image], HW)
    assert info.obj_names == visual_genome_objects()
    assert info.attr_names == visual_genome_attributes()
    weights = {
        name.rpartition("attribute_predictor.")[2]: value
        for name, value in torch.load(network.weights)["model"].items()
    }
    assert regions.obj_ids is not None
    embedded = weights["obj_embed.weight"][torch.from_numpy(regions.obj_ids).long()]
    inputs = torch.cat([torch.from_numpy(regions.visual_feats), embedded], dim=1)
    hidden = functional.linear(inputs, weights["fc.0.weight"], weights["fc.0.bias"]).relu()
    logits = functional.linear(hidden, weights["attr_score.weight"], weights["attr_score.bias"])
    probs, ids = logits.softmax(dim=1).max(dim=1)
    assert len(set(ids.tolist())) > 1
    np.testing.assert_array_equal(regions.attr_ids, ids)
    np.testing.assert_allclose(regions.attr_probs, probs, rtol=1e-4)
    again = detector.pool_boxes([image], HW, [regions.boxes])
    assert again.attr_ids is not None


def test_grids_have_a_cell_for_32_pixels_and_need_no_attributes(
    tmp_path: Path, image: np.ndarray
) -> None:
    network = write(tmp_path, GRID)
    options = network.options(features="grid")
    regions = Detectron(options).grid([image], HW)
    assert regions.num_boxes.tolist() == [128 // 32 * 160 // 32]
    assert regions.attr_ids is None
    tensors = torch.load(network.weights)["model"]
    offset = next(name for name in tensors if name.endswith("conv2_offset.weight"))
    tensors[offset] = -tensors[offset]
    torch.save({"model": tensors}, network.weights)
    other = Detectron(options).grid([image], HW)
    assert np.abs(other.visual_feats - regions.visual_feats).max() > 1e-3


def test_deformable_convolutions_sample_at_their_offsets() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 4, 9, 11)
    plain = DeformConv(4, 6, 3, stride=2, padding=1, groups=2)
    modulated = ModulatedDeformConv(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
    for shift_y, shift_x in ((0, 0), (1, -2)):
        offset = torch.tensor([shift_y, shift_x] * 9, dtype=torch.float32).view(1, 18, 1, 1)
        offset = offset.expand(1, 18, 5, 6).contiguous()
        moved = functional.pad(x, (8, 8, 8, 8)).roll((-shift_y, -shift_x), (2, 3))
        moved = moved[:, :, 7:-7, 7:-7]  # the zeros around the image move with it
        with torch.no_grad():
            expected = functional.conv2d(moved, plain.weight, stride=2, groups=2)
            torch.testing.assert_close(plain(x, offset), expected)
            half = modulated(x, offset, torch.full((1, 9, 5, 6), 0.5))
            expected = functional.conv2d(moved, modulated.weight, stride=2, groups=2) / 2
        torch.testing.assert_close(half, expected)


def test_the_names_can_be_replaced(tmp_path: Path) -> None:
    network = write(tmp_path, UPDN)
    names = [f"name {index}" for index in range(400)]
    options = network.options(options={"attr_names": names})
    assert Detectron(options).info.attr_names == tuple(names)
    with pytest.raises(ValueError, match=r"attr_names lists 1 names, but .*=400"):
        Detectron(network.options(options={"attr_names": ["a"]}))
