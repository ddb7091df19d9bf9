"""VinVL's detector: what its own code finds, its checkpoint, its label map and its options."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vlray
from tests.benchmarks.vinvl_parity import find
from tests.detect import vinvl_goldens
from tests.detect.vinvl_weights import NARROW, write_labels, write_vinvl
from vlray.config.detector import DetectorSection
from vlray.detect import notebook
from vlray.detect.load import check_modes, check_weights, identify, load_detector, settled
from vlray.detect.selection.reselect import collecting, rule_of
from vlray.detect.selection.rules import Proposals
from vlray.detect.vinvl.checkpoint import load_vinvl
from vlray.detect.vinvl.detector import Vinvl
from vlray.images.resize import ResizeTruncated
from vlray.regions.batch import RegionBatch

State = dict[str, torch.Tensor]
_COPY = "attribute.feature_extractor.head.layer4.0.conv1.weight"


@pytest.fixture(scope="module")
def weights(vinvl_state: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A published file of a narrow network, whose converted form is kept for the module."""
    folder = tmp_path_factory.mktemp("vinvl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield write_vinvl(vinvl_state, folder / "vinvl.pth")
    notebook._load.cache_clear()


@pytest.mark.parametrize("number", [1, 2])
def test_regions_are_those_of_vinvls_own_code(number: int, weights: Path) -> None:
    limits = dict(zip(("min_boxes", "max_boxes"), vinvl_goldens.LIMITS, strict=True))
    for path in vinvl_goldens.PATHS:
        golden = json.loads(vinvl_goldens.FILE.read_text())[str(number)][path.name]
        ours = vinvl_goldens.summary(find(path, weights, number, **limits, **vinvl_goldens.SIZES))
        best, scores = (np.array(golden[name])[:, 0] for name in ("top_attr_ids", "top_attr_probs"))
        np.testing.assert_array_equal(ours["obj_ids"], golden["obj_ids"])
        np.testing.assert_array_equal(ours["attr_ids"], best)
        np.testing.assert_allclose(ours["boxes"], golden["boxes"], atol=0.01)
        np.testing.assert_allclose(ours["obj_probs"], golden["obj_probs"], atol=1e-3)
        np.testing.assert_allclose(ours["attr_probs"], scores, atol=1e-3)
        np.testing.assert_allclose(ours["norms"], golden["norms"], rtol=1e-4)
        error = np.abs(np.subtract(ours["projections"], golden["projections"])).max(axis=1)
        assert (error <= 1e-4 * np.array(golden["norms"])).all()


def test_its_own_boxes_yield_its_features_again(weights: Path) -> None:
    options: dict[str, Any] = {"weights": str(weights), "device": "cpu", **vinvl_goldens.SIZES}
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    regions = vlray.find_regions(image, "vinvl", max_boxes=10, **options)
    pooled = vlray.find_regions(image, "vinvl", boxes=regions.boxes, **options)
    np.testing.assert_allclose(pooled.visual_feats, regions.visual_feats, rtol=1e-3, atol=1e-4)


def test_tune_selects_again_what_filter_2_selects(weights: Path) -> None:
    options = settled(
        DetectorSection(name="vinvl", weights=str(weights), nms_filter=2, **vinvl_goldens.SIZES)
    )
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    hw = np.array([image.shape[:2]], np.int32)

    def detect(section: DetectorSection) -> RegionBatch:
        return load_detector(section)([Vinvl.resize(section)(image)], hw)

    every = detect(collecting(options, with_feats=False))
    assert every.obj_ids is not None
    assert every.obj_probs is not None
    ends = np.array([0, len(every.boxes)])
    proposals = Proposals(ends, every.boxes, every.obj_ids, every.obj_probs)
    for changes in ({}, {"score_thresh": 0.6, "nms_thresh": 0.3, "min_boxes": 2, "max_boxes": 20}):
        section = options.model_copy(update=changes)
        rows, _ = rule_of("vinvl", proposals).select(section)
        direct = detect(section)
        np.testing.assert_array_equal(every.boxes[rows], direct.boxes)
        np.testing.assert_array_equal(every.obj_ids[rows], direct.obj_ids)
    with pytest.raises(ValueError, match="pass --nms-filter 2"):
        collecting(options.model_copy(update={"nms_filter": 1}), with_feats=False)


def test_a_label_map_names_the_classes(weights: Path, tmp_path: Path) -> None:
    options = {"weights": str(weights), "labels": str(write_labels(NARROW, tmp_path / "map.json"))}
    info = vlray.detector_info("vinvl", **options)
    assert (info.obj_names[0], info.attr_names[-1]) == (
        "object-1",
        f"attribute-{NARROW.attributes}",
    )
    identity = identify(DetectorSection(name="vinvl", **options))
    assert identity.keys() == {"target", "weights_sha256", "labels_sha256"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda names: names.pop("object-3"), "its ids must be 1, 2, 3"),
        (lambda names: names.update(new=NARROW.objects + 1), "names 121 object classes"),
        (lambda names: names.update(new="many"), "is not VinVL's label map"),
    ],
)
def test_a_wrong_label_map_is_refused(
    change: Callable[[dict[str, Any]], object], reason: str, weights: Path, tmp_path: Path
) -> None:
    path = write_labels(NARROW, tmp_path / "map.json")
    content = json.loads(path.read_text())
    change(content["label_to_idx"])
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=reason):
        check_weights(DetectorSection(name="vinvl", weights=str(weights), labels=str(path)))


def test_neither_prefix_nor_copies_matter(vinvl_state: State, tmp_path: Path, cache: Path) -> None:
    plain = {
        name: value for name, value in vinvl_state.items() if not name.startswith("attribute.f")
    }
    one = load_vinvl(str(write_vinvl(vinvl_state, tmp_path / "a.pth", "module.module.")))
    other = load_vinvl(str(write_vinvl(plain, tmp_path / "b.pth", "")))
    again = load_vinvl(str(tmp_path / "b.pth"))  # from the cache
    assert one.layout == other.layout == again.layout == NARROW
    for name, tensor in one.tensors.items():
        assert torch.equal(tensor, other.tensors[name])
        assert torch.equal(tensor, again.tensors[name])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.pop("backbone.body.layer2.0.bn1.bias"), "missing from the file"),
        (lambda s: s.update(new=torch.zeros(1)), r"not part of the network \(1 tensor\): new"),
        (lambda s: s.update({"rpn.head.cls_logits.bias": torch.zeros(12)}), "wrong shape"),
        (lambda s: s.update({_COPY: s[_COPY] + 1}), "shares the features of the box head"),
        (lambda s: s["rpn.anchor_generator.cell_anchors.0"].add_(3), "anchors"),
        (lambda s: s.pop("backbone.body.layer1.0.conv2.weight"), "does not contain VinVL's"),
        (lambda s: s["rpn.head.conv.bias"].fill_(float("nan")), "NaN or infinite"),
    ],
)
def test_other_weights_are_refused_with_the_differences(
    change: Callable[[State], object], reason: str, vinvl_state: State, tmp_path: Path, cache: Path
) -> None:
    other = {name: value.clone() for name, value in vinvl_state.items()}
    change(other)
    path = write_vinvl(other, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=reason):
        check_weights(DetectorSection(name="vinvl", weights=str(path)))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that keeps nothing of the other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("options", "limits"),
    [({}, (10, 100)), ({"max_boxes": "5"}, (5, 5)), ({"min_boxes": 120}, (120, 120))],
)
def test_vinvl_keeps_10_to_100_boxes(options: dict[str, Any], limits: tuple[int, int]) -> None:
    section = settled(DetectorSection(name="vinvl", **options))
    assert (section.min_boxes, section.max_boxes) == limits


@pytest.mark.parametrize("options", [{"nms_filter": 2}, {"labels": "map.json"}])
def test_other_detectors_refuse_vinvls_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="works only with vinvl"):
        check_modes(DetectorSection(**options), boxes_given=False)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [  # from Resize.get_size of maskrcnn-benchmark
        (480, 640, (600, 800)),
        (427, 640, (600, 899)),
        (500, 333, (900, 600)),
        (100, 1000, (100, 1000)),
        (3, 4000, (1, 1333)),
        (600, 700, (600, 700)),
    ],
)
def test_the_longer_side_is_truncated(height: int, width: int, expected: tuple[int, int]) -> None:
    assert ResizeTruncated(600, 1000).output_hw(height, width) == expected
