"""Figures of selected regions: recall as COCO's own evaluation has it, and names of given boxes."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.fixtures.collected import OWN, config
from vlray.config.detector import DetectorSection
from vlray.tuning import metrics as module
from vlray.tuning.collect import collect
from vlray.tuning.labels import label_accuracy
from vlray.tuning.metrics import IOUS, TOP, recalls, selection_metrics
from vlray.tuning.selected import Selection
from vlray.tuning.truth import Truth, read_truth


@pytest.fixture(scope="module")
def annotations(shared: Path) -> Path:
    return shared / "fixtures/coco_mini/annotations/instances_val2017.json"


@pytest.fixture(scope="module")
def truth(annotations: Path) -> Truth:
    return read_truth(str(annotations), "coco")


def cocos(annotations: Path, selection: Selection, image_ids: Sequence[str]) -> np.ndarray:
    """Give recall by IoU and by number of regions, as COCO's evaluation measures it."""
    results = [
        {
            "image_id": int(image_ids[image]),
            "category_id": 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for image, (x1, y1, x2, y2), score in zip(
            selection.images.tolist(),
            selection.boxes.astype(float).tolist(),
            selection.obj_probs.tolist(),
            strict=True,
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        right = COCO(str(annotations))
        evaluation = COCOeval(right, right.loadRes(results), "bbox")
        evaluation.params.useCats = 0
        evaluation.params.imgIds = [int(image_id) for image_id in image_ids]
        evaluation.params.maxDets = list(TOP)
        evaluation.params.areaRng = [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    np.testing.assert_array_equal(evaluation.params.iouThrs, IOUS)
    recall: np.ndarray = evaluation.eval["recall"][:, 0, 0]
    return recall


def same_as_cocos(
    found: dict[str, float], annotations: Path, selection: Selection, image_ids: Sequence[str]
) -> None:
    expected = cocos(annotations, selection, image_ids)
    for column, top in enumerate(TOP):
        assert found[f"ar@{top}"] == pytest.approx(expected[0, column], abs=1e-12)
        assert found[f"ar@{top}:0.5:0.95"] == pytest.approx(expected[:, column].mean(), abs=1e-12)


def near(truth: Truth, image_ids: Sequence[str], seed: int) -> Selection:
    """Make up to 130 regions an image around what is there, crowds too, many of equal scores."""
    rng = np.random.default_rng(seed)
    places = {image_id: at for at, image_id in enumerate(truth.image_ids)}
    boxes, counts = [], []
    for image_id in image_ids:
        at = places[image_id]
        there = truth.boxes[truth.offsets[at] : truth.offsets[at + 1]]
        number = int(rng.integers(0, 130)) if len(there) else 0
        picked = there[rng.integers(0, len(there), number)] if number else np.zeros((0, 4))
        sides = np.tile(picked[:, 2:] - picked[:, :2], 2)
        moved = picked + rng.normal(size=picked.shape) * sides * rng.choice([0, 0.05, 0.2])
        boxes.append(np.concatenate([np.minimum(moved[:, :2], moved[:, 2:]), moved[:, 2:]], 1))
        counts.append(number)
    flat = np.concatenate(boxes).astype(np.float32)
    return Selection(
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        boxes=flat,
        obj_ids=np.zeros(len(flat), np.int32),
        obj_probs=rng.integers(0, 50, len(flat)).astype(np.float32) / 50,
        attr_ids=None,
        attr_probs=None,
        rows=np.arange(len(flat)),
    )


def test_recall_is_what_cocos_evaluation_measures(
    annotations: Path, truth: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert truth.ignored.any()
    rng = np.random.default_rng(1)
    for seed in range(2):
        image_ids = [truth.image_ids[i] for i in rng.permutation(len(truth.image_ids))[:150]]
        selection = near(truth, image_ids, seed)
        found = recalls(selection, image_ids, truth)
        same_as_cocos(found, annotations, selection, image_ids)
        assert found["ar@10"] < found["ar@36"] < found["ar@100"] < found["recall"]
        with monkeypatch.context() as patch:  # as if there were too many pairs at once
            patch.setattr(module, "_PAIRS_AT_A_TIME", 5000)
            assert recalls(selection, image_ids, truth) == found


def test_regions_of_a_detector_are_measured(
    shared: Path, annotations: Path, truth: Truth, tmp_path: Path, ray_cluster: str
) -> None:
    photographs = sorted((shared / "fixtures/coco_mini/val2017").iterdir())[:9]
    listed = tmp_path / "images.txt"
    listed.write_text("\n".join(map(str, photographs)))
    settings = config(listed, "-", min_size=256, max_size=427)
    images = settings.images.model_copy(update={"id_rule": "coco"})
    settings = settings.model_copy(update={"images": images})
    candidates = collect(settings, tmp_path / "proposals", with_feats=False)
    results = []
    for values in ({}, {"min_boxes": 100, "max_boxes": 100, "nms_thresh": 0.8}):
        selection = candidates.select(settings.detector.model_copy(update=values))
        found = selection_metrics(selection, candidates, truth)
        same_as_cocos(found, annotations, selection, candidates.image_ids)
        assert found["boxes"] == len(selection) / 9
        results.append(found)
    assert results[0]["recall"] == results[0]["ar@36"] > 0.2
    assert results[1]["ar@100"] > results[0]["ar@100"]
    assert selection_metrics(selection, candidates, None) == {"boxes": results[1]["boxes"]}
    elsewhere = replace(truth, image_ids=tuple(f"x{name}" for name in truth.image_ids))
    with pytest.raises(ValueError, match=r"--images\.id-rule"):
        selection_metrics(selection, candidates, elsewhere)

    named = label_accuracy(settings, truth, tmp_path / "labels")
    rows = [at for at, name in enumerate(truth.image_ids) if name in candidates.image_ids]
    wanted = sum((~truth.ignored[truth.offsets[at] : truth.offsets[at + 1]]).sum() for at in rows)
    assert named["label_boxes"] == wanted
    assert 0.2 < named["label_accuracy"] < 1
    assert named.keys() == {"label_boxes", "label_accuracy"}
    assert label_accuracy(settings, truth, tmp_path / "labels") == named


def test_names_of_given_boxes_are_counted_where_the_detector_knows_them(
    tmp_path: Path, ray_cluster: str
) -> None:
    (tmp_path / "images").mkdir()
    pixels = np.zeros((100, 120, 3), np.uint8)
    pixels[:50, :60, 0], pixels[:50, 60:, 1], pixels[50:, :, 2] = 250, 60, 200  # red, green, blue
    Image.fromarray(pixels).save(tmp_path / "images" / "flag.png")
    names = ["Red", "grass", "blue", "purple"]
    boxes: list[tuple[int, list[int], dict[str, Any]]] = [
        (0, [5, 5, 40, 40], {"attributes": ["bright", "plain"]}),
        (1, [70, 5, 40, 40], {"attributes": ["bright"]}),  # it is dim
        (0, [10, 60, 80, 30], {"attributes": ["unknown"]}),  # it is blue
        (2, [10, 60, 80, 30], {}),
        (3, [5, 5, 40, 40], {}),  # purple is not among the detector's classes
        (2, [5, 5, 40, 40], {"iscrowd": 1}),
        (2, [5, 5, 0, 40], {}),  # empty
    ]
    content = {
        "images": [{"id": 1, "file_name": "flag.png"}, {"id": 2, "file_name": "other.png"}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
        "annotations": [
            {"image_id": 1, "category_id": category, "bbox": bbox, **more}
            for category, bbox, more in boxes
        ],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    settings = config(tmp_path / "images", "-", name=f"{OWN}:Tinted")
    assert label_accuracy(settings, read_truth(str(path)), tmp_path / "labels") == {
        "label_accuracy": 3 / 4,
        "label_boxes": 4,
        "attribute_accuracy": 1 / 2,
        "attribute_boxes": 2,
    }
    for category in content["categories"]:
        category["name"] = "nothing known"
    for one in content["annotations"]:
        one.pop("attributes", None)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="knows none of the classes"):
        label_accuracy(settings, read_truth(str(path)), tmp_path / "labels")


def test_a_detector_that_cannot_name_given_boxes_is_refused(
    truth: Truth, photos: Path, tmp_path: Path
) -> None:
    settings = config(photos, "-", name=f"{OWN}:Bright")
    assert isinstance(settings.detector, DetectorSection)
    with pytest.raises(ValueError, match="cannot pool boxes"):
        label_accuracy(settings, truth, tmp_path)
