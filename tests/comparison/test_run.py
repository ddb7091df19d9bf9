"""Whole outputs against each other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from vlray.comparison import compare, table
from vlray.comparison.worst import ORDERS, Worst
from vlray.storage import files

FAILED = [("coffee", "coffee.png", "train", "decode", "ImageError", "cut off")]


def report_of(folder: Path) -> dict:
    return json.loads((folder / "compare.json").read_text())


def test_an_output_is_identical_to_itself(regions, write_output, tmp_path) -> None:
    out = write_output("out", regions)
    result = compare(out, out, report=str(tmp_path))
    assert result.identical
    assert "are identical" in table(result)
    report = report_of(tmp_path)
    assert report["identical"]
    assert report["images"]["identical"] == report["images"]["both"] == 3
    assert report["overall"]["matched_share"] == 1
    assert report["overall"]["cosine"]["min"] == 1
    assert report["overall"]["rel_l2"]["max"] == 0
    assert report["differences"] == []


def test_images_are_joined_by_their_ids_in_any_order(regions, write_output, tmp_path) -> None:
    a, b = write_output("a", regions), write_output("b", regions, order=[2, 0, 1])
    assert compare(a, b).identical
    compare(b, a, report=str(tmp_path))
    ids = [row["image_id"] for row in report_of(tmp_path)["per_image"]]
    assert ids == ["coffee", "astronaut", "chelsea"]


def test_of_float16_the_rounding_is_told_apart(regions, write_output) -> None:
    result = compare(write_output("a", regions), write_output("b", regions, dtype="float16"))
    overall = result.overall
    assert not result.identical
    assert overall.matched == overall.boxes_a == overall.boxes_b == 108
    assert overall.rel_l2.mean == pytest.approx(overall.rounding.mean, rel=1e-3)
    assert ("feature dtype", "float32", "float16") in result.differences
    assert "due to float16 rounding" in table(result)


def test_two_settings_of_a_detector_are_compared_box_by_box(
    regions, smaller, write_output, tmp_path
) -> None:
    a = write_output("a", regions, settings={"detector.max_boxes": 36})
    b = write_output("b", smaller, settings={"detector.max_boxes": 20})
    result = compare(a, b, report=str(tmp_path), worst=2)
    report = report_of(tmp_path)
    assert {"name": "detector.max_boxes", "a": "36", "b": "20"} in report["differences"]
    overall, rows = report["overall"], report["per_image"]
    assert (overall["boxes_a"], overall["boxes_b"]) == (108, 60)
    assert 0 < overall["matched"] < 60
    for name in ("boxes_a", "boxes_b", "matched", "same_class"):
        assert overall[name] == sum(row[name] for row in rows)
    assert overall["cosine"]["min"] == min(row["cosine_min"] for row in rows)
    assert overall["iou"]["min"] == pytest.approx(min(row["iou_min"] for row in rows))
    shares = list(overall["matched_share_at_iou"].values())
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == overall["matched_share"] == 2 * overall["matched"] / 168
    assert overall["images_with_more_boxes_in_a"] == 3
    assert "detector.max_boxes  36" in table(result)


def test_the_documented_keys_are_there(published, write_output, tmp_path) -> None:
    ids, batch = published
    out = write_output("out", batch, ids, obj_names=["thing"] * 1600, attr_names=["so"] * 400)
    compare(out, out, report=str(tmp_path))
    report = report_of(tmp_path)
    documented = compare.__doc__
    for group in (report, report["overall"], report["images"]):
        for name in group:
            assert f"``{name}``" in documented, name
    fields = set(report["per_image"][0])
    assert fields >= {"image_id", "matched", "cosine_mean", "rel_l2_mean", "same_attribute"}
    assert report["overall"]["same_attribute_share"] == 1


def test_images_of_one_side_only_are_named_with_their_reason(
    regions, write_output, tmp_path
) -> None:
    a = write_output("a", regions)
    b = write_output("b", regions, ["astronaut", "cat", "coffee"], order=[1, 0], failed=FAILED)
    result = compare(a, b, report=str(tmp_path))
    assert result.only_a == {"chelsea": "not in the output", "coffee": "ImageError: cut off"}
    assert result.only_b == {"cat": "not in the output"}
    assert not result.identical
    assert report_of(tmp_path)["images"] == {
        "both": 1,
        "identical": 1,
        "other_size": 0,
        "only_a": 2,
        "only_b": 1,
    }
    assert "images only in A" in table(result)


def test_of_other_detectors_only_the_boxes_are_compared(
    regions, published, write_output, tmp_path
) -> None:
    names = ["thing"] * 80
    other = replace(regions, visual_feats=regions.visual_feats[:, :100])
    result = compare(
        write_output("a", regions),
        write_output("b", other, obj_names=names, detector={"name": "mine"}),
        report=str(tmp_path),
    )
    assert result.overall.matched == 108
    assert not result.overall.cosine.count
    assert not result.overall.classes
    assert not result.overall.identical
    text = table(result)
    assert (
        "features are not compared: A has vectors of length 984, B has vectors of length 100."
        in text
    )
    assert (
        "classes are not compared: A and B use different names for id 0: 'person' and 'thing'."
        in text
    )
    assert report_of(tmp_path)["not_compared"].keys() == {"features", "classes"}


def test_boxes_without_features_are_compared_as_boxes(regions, write_output) -> None:
    boxes = replace(regions, visual_feats=regions.visual_feats[:, :0])
    a, b = write_output("a", boxes), write_output("b", boxes, order=[1, 2, 0])
    result = compare(a, b)
    assert result.identical
    assert "boxes only" in table(result)
    mixed = compare(a, write_output("c", regions))
    assert not mixed.identical
    assert mixed.overall.classes == 108
    assert "A has no vectors" in table(mixed)


def test_only_the_wanted_splits_are_compared(regions, write_output) -> None:
    splits = ["train", "val", "val"]
    a, b = (write_output(name, regions, splits=splits) for name in "ab")
    assert compare(a, b, split=["val"]).overall.images == 2
    with pytest.raises(ValueError, match=r"has no images in split dev; choose from"):
        compare(a, b, split=["dev"])


def test_sizes_that_differ_are_counted(regions, write_output) -> None:
    double = replace(regions, image_hw=regions.image_hw * 2, boxes=regions.boxes * 2)
    result = compare(write_output("a", regions), write_output("b", double), iou_thresh=0.9)
    assert result.overall.other_size == 3
    assert result.overall.matched == 108
    assert "B's boxes were scaled" in table(result)


def test_weights_and_conventions_are_told_apart(regions, write_output) -> None:
    detectors = ({"name": "vg", "weights_sha256": digit * 64} for digit in "ab")
    a, b = (
        write_output(name, regions, detector=detector, conventions={"anchors": name})
        for name, detector in zip(("a", "b"), detectors, strict=True)
    )
    result = compare(a, b)
    assert ("convention anchors", "a", "b") in result.differences
    assert "weights_sha256      aaaaaaaaaaaa  bbbbbbbbbbbb" in table(result)
    assert result.identical  # whoever made them: the regions are the same


def test_images_instead_of_an_output_are_told_how_they_become_one(
    regions, write_output, photos
) -> None:
    with pytest.raises(ValueError, match=r"B: .* contains images, .*: vlray extract \S+ REGIONS$"):
        compare(write_output("a", regions), str(photos))


def test_outputs_that_cannot_be_compared_are_refused(regions, write_output, tmp_path) -> None:
    a = write_output("a", regions)
    with pytest.raises(ValueError, match=r"no image ids in common: .*'astronaut'.*'x'"):
        compare(a, write_output("b", regions, ["x", "y", "z"]))
    with pytest.raises(ValueError, match=r"B: .* does not exist"):
        compare(a, str(tmp_path / "nowhere"))
    features = tmp_path / "features.tsv"
    features.write_text("84002\t480\t640\n")
    with pytest.raises(ValueError, match=r"A: .* is not a vlray output; .* vlray convert"):
        compare(str(features), a)
    empty = write_output("empty", regions, order=[])
    with pytest.raises(ValueError, match=r"B: .* contains no regions yet"):
        compare(a, empty)


def test_outputs_and_reports_may_be_in_a_bucket(regions, write_output, bucket) -> None:
    local = write_output("a", regions)
    fs, folder = files.resolve(bucket)
    pafs.copy_files(local, folder, destination_filesystem=fs)
    result = compare(bucket, local, report=f"{bucket}/report")
    assert result.identical
    report = json.loads(files.read_bytes(fs, files.join(folder, "report", "compare.json")))
    assert report["identical"]
    assert b"No image differs" in files.read_bytes(fs, files.join(folder, "report/compare.html"))


def test_only_the_worst_images_stay_in_memory_and_none_of_their_vectors(
    regions, smaller, write_output, tmp_path
) -> None:
    a, b = write_output("a", regions), write_output("b", smaller)
    result = compare(a, b, report=str(tmp_path), worst=1)
    images, orders = result.worst.images()
    assert len(images) <= len(ORDERS)
    assert all(len(places) <= 1 for places in orders.values())
    for image in images:
        for side in (image.a, image.b):
            arrays = [side.boxes, side.obj_ids, side.obj_probs]
            assert all(array.base is None for array in arrays)
    rows = report_of(tmp_path)["per_image"]
    worst = min(rows, key=lambda row: row["cosine_mean"])
    assert images[orders["cosine"][0]].image_id == worst["image_id"]


def test_of_no_images_wanted_none_is_kept(regions, write_output, tmp_path) -> None:
    out = write_output("out", regions)
    compare(out, out, report=str(tmp_path / "report"), worst=0)
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["compare.json"]
    assert Worst(0).images() == ([], {name: [] for name in ORDERS})
