"""What is read of COCO's JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vlray.tuning.truth import read_truth

IMAGES = [{"id": 7, "file_name": "000000000007.jpg"}, {"id": 5, "file_name": "b/000000000005.jpg"}]
CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}]


def box(image: int, category: int, *bbox: float, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": bbox, **more}


def write(folder: Path, annotations: list[Any], **more: Any) -> str:
    path = folder / "truth.json"
    content = {"images": IMAGES, "annotations": annotations, "categories": CATEGORIES, **more}
    path.write_text(json.dumps(content))
    return str(path)


def test_boxes_of_an_image_keep_their_order_and_become_corners(tmp_path: Path) -> None:
    annotations = [
        box(5, 9, 1, 2, 3, 4),
        box(7, 3, 10, 20, 30, 40.5, iscrowd=1),
        box(5, 3, 0, 0, 2, 2, ignore=1),
        box(5, 9, 5, 5, 1, 1, iscrowd=0),
    ]
    truth = read_truth(write(tmp_path, annotations), "coco")
    assert truth.image_ids == ("7", "5")
    assert truth.offsets.tolist() == [0, 1, 4]
    assert truth.boxes.tolist() == [[10, 20, 40, 60.5], [1, 2, 4, 6], [0, 0, 2, 2], [5, 5, 6, 6]]
    assert truth.classes == ("cat", "dog", "cat", "dog")
    assert truth.ignored.tolist() == [True, False, True, False]
    assert truth.attributes == ()


def test_attributes_and_classes_are_there_where_the_file_has_them(tmp_path: Path) -> None:
    annotations = [box(5, 9, 1, 2, 3, 4, attributes=["red", "wet"]), box(7, 9, 1, 2, 3, 4)]
    truth = read_truth(write(tmp_path, annotations))
    assert truth.attributes == ((), ("red", "wet"))
    assert truth.image_ids == ("000000000007", "000000000005")
    assert read_truth(write(tmp_path, annotations, categories=[])).classes == ()


def test_a_published_file_is_read_whole(shared: Path) -> None:
    path = shared / "fixtures/coco_mini/annotations/instances_val2017.json"
    truth = read_truth(str(path), "coco")
    found = json.loads(path.read_text())
    assert len(truth) == len(found["annotations"])
    assert truth.ignored.sum() == sum(one["iscrowd"] for one in found["annotations"])
    assert np.diff(truth.offsets).sum() == len(truth.classes)
    assert "139" in truth.image_ids


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("not JSON", "is not JSON"),
        ("[1, 2]", "no images and annotations"),
        ({"images": [], "annotations": []}, "empty list of images"),
        ({"images": [{"id": 1}], "annotations": []}, "'file_name'"),
        ({"images": IMAGES, "annotations": [box(8, 3, 1, 2, 3, 4)]}, "annotation 0.*KeyError"),
        ({"images": IMAGES, "annotations": [box(5, 3, 1, 2, 3)]}, "annotation 0"),
        ({"images": IMAGES, "annotations": [7]}, "annotation 0, 7"),
        ({"images": IMAGES, "annotations": [box(5, 3, 1, 2, 3, float("nan"))]}, "not finite"),
        (
            {"images": IMAGES, "annotations": [box(5, 4, 1, 2, 3, 4)], "categories": CATEGORIES},
            "annotation 0",
        ),
        (
            {"images": IMAGES, "annotations": [box(5, 3, 1, 2, 3, 4, attributes={"a": 1})]},
            "pass a list of names",
        ),
    ],
)
def test_damaged_files_are_refused_by_name(content: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=f"(?s)truth.json.*{said}"):
        read_truth(str(path))
