"""MMF's pairs of files: what each of its scripts means by them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.formats import written
from tests.formats.written import assert_resumes, assert_same, read_all, some_images
from vlray.formats.readers.npy import NpyReader
from vlray.formats.readers.protocol import RawRegions, Unreadable


def test_the_vmb_script_is_read_with_classes_and_scores(tmp_path: Path) -> None:
    images = some_images()
    for image in images:
        written.save_npy(tmp_path, image, written.mmf_vmb(image))
    reader = NpyReader(tmp_path, trust_pickle=True)
    assert NpyReader.recognizes(tmp_path)
    for got, image in zip(read_all(reader), images, strict=True):
        assert_same(got, image, labels="oO")
        assert got.image_hw == (image.height, image.width)
        assert got.remarks == ()
    assert_resumes(reader)


def test_classes_are_those_without_the_background(tmp_path: Path) -> None:
    (image,) = some_images(1)
    info = written.mmf_vmb(image, background=True)
    assert info["objects"][0] == 0
    assert info["objects"][1] == image.obj_ids[1] + 1
    written.save_npy(tmp_path, image, info)
    (got,) = read_all(NpyReader(tmp_path, trust_pickle=True))
    assert_same(got, image, labels="oO")
    assert got.remarks == ("background-first",)


def test_the_frcnn_script_has_the_size_of_another_image_and_too_many_features(
    tmp_path: Path,
) -> None:
    (image,) = some_images(1)
    written.save_npy(tmp_path, image, written.mmf_frcnn(image), extra_rows=5)
    (tmp_path / f"{image.image_id}_full.npy").write_bytes(b"of --visualize")
    (got,) = read_all(NpyReader(tmp_path, trust_pickle=True))
    assert_same(got, image, labels="oO")
    assert got.image_hw == image.resized()
    assert got.remarks == ("resized-size", "num-boxes-differs")


def test_suppressed_boxes_are_kept_and_the_other_count_is_said(tmp_path: Path) -> None:
    (image,) = some_images(1)
    written.save_npy(tmp_path, image, written.mmf_vmb(image) | {"num_boxes": 1})
    (got,) = read_all(NpyReader(tmp_path, trust_pickle=True))
    assert_same(got, image, labels="oO")
    assert got.remarks == ("num-boxes-differs",)


def test_the_vinvl_script_has_fractions_and_other_words(tmp_path: Path) -> None:
    (image,) = some_images(1)
    scaled = image.boxes / np.float32([image.width, image.height] * 2)
    boxes = np.hstack([scaled, scaled[:, 2:] - scaled[:, :2]])
    wide = dataclasses.replace(image, features=np.hstack([image.features, boxes]))
    info = {
        "labels": image.obj_ids + 1,
        "scores": image.obj_probs,
        "bbox": boxes,
        "image_width": image.width,
        "image_height": image.height,
    }
    written.save_npy(tmp_path, wide, info)
    (got,) = read_all(NpyReader(tmp_path, trust_pickle=True))
    assert_same(got, wide, labels="", boxes=scaled)
    assert got.remarks == ("normalized-boxes", "other-vocabulary")


def test_a_damaged_pair_leaves_the_others_readable(tmp_path: Path) -> None:
    images = some_images(5)
    for image in images:
        written.save_npy(tmp_path, image, written.mmf_vmb(image))
    features = [tmp_path / f"{image.image_id}.npy" for image in images]
    infos = [tmp_path / f"{image.image_id}_info.npy" for image in images]
    features[0].write_bytes(features[0].read_bytes()[:-8])
    infos[1].write_bytes(infos[1].read_bytes()[:-8])
    infos[2].unlink()
    np.save(features[3], np.array({"image_feat": 1}, dtype=object))
    got = read_all(NpyReader(tmp_path, trust_pickle=True))
    assert [type(item) for item in got] == [Unreadable] * 4 + [RawRegions]
    reasons = [item.reason for item in got[:4] if isinstance(item, Unreadable)]
    assert f"{infos[1].name} is a damaged pickle" in reasons[1]
    assert f"{infos[2].name}, which contains the boxes, is missing" in reasons[2]
    assert "allow_pickle=False" in reasons[3]


def test_trust_is_asked_for_before_anything_is_opened(tmp_path: Path) -> None:
    (image,) = some_images(1)
    written.save_npy(tmp_path, image, written.mmf_vmb(image))
    with pytest.raises(ValueError, match="--trust-pickle"):
        NpyReader(tmp_path)


def test_arrays_alone_are_not_taken_for_it(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((3, 4)))
    assert not NpyReader.recognizes(tmp_path)
    assert not NpyReader.recognizes(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has no pair of files X\.npy and X_info\.npy; pass"):
        NpyReader(tmp_path / "nowhere", trust_pickle=True)


def test_an_array_that_the_file_does_not_hold_is_not_read(tmp_path: Path) -> None:
    (image,) = some_images(1)
    written.save_npy(tmp_path, image, written.mmf_frcnn(image, len(image.boxes)))
    (path,) = (path for path in tmp_path.glob("*.npy") if not path.name.endswith("_info.npy"))
    for rows, reason in ((2**16, "declares 536,870,912 bytes, but has"), (2**24, "more than the")):
        with path.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (rows, 2048)}
            np.lib.format.write_array_header_1_0(file, header)
        (read,) = read_all(NpyReader(tmp_path, trust_pickle=True))
        assert isinstance(read, Unreadable)
        assert reason in read.reason
