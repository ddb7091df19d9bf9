"""Folders of npz files: every layout gives the same regions, and labels wait for trust."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.formats import written
from tests.formats.written import assert_resumes, assert_same, read_all, some_images
from vlray.formats.readers import bounds
from vlray.formats.readers.npz import NpzReader
from vlray.formats.readers.protocol import RawRegions, Unreadable


class Evil:
    """Unpickles by leaving a folder behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_milvlgs_caffe_files_are_read_with_their_labels(tmp_path: Path) -> None:
    images = some_images()
    for image in images:
        written.npz_caffe(tmp_path, image)
    reader = NpzReader(tmp_path, trust_pickle=True)
    assert NpzReader.recognizes(tmp_path)
    for got, image in zip(read_all(reader), images, strict=True):
        assert_same(got, image)
        assert got.image_hw == (image.height, image.width)
        assert got.remarks == ()
    assert_resumes(reader)


def test_a_network_without_attributes_leaves_them_out(tmp_path: Path) -> None:
    (image,) = some_images(1)
    written.npz_caffe(tmp_path, image, attributes=False)
    assert_same(read_all(NpzReader(tmp_path, trust_pickle=True))[0], image, labels="oO")


def test_without_trust_all_but_the_labels_is_read(tmp_path: Path) -> None:
    images = some_images(3)
    for image in images:
        written.npz_caffe(tmp_path, image)
    for got, image in zip(read_all(NpzReader(tmp_path)), images, strict=True):
        assert_same(got, image, labels="")
        assert got.image_hw == (image.height, image.width)
        assert got.remarks == ("labels-need-trust-pickle",)


@pytest.mark.parametrize("trust_pickle", [False, True])
def test_a_pickle_that_would_run_code_runs_none(trust_pickle: bool, tmp_path: Path) -> None:
    good, bad = some_images(2)
    written.npz_caffe(tmp_path, good)
    trace = tmp_path / "trace"
    info = {"objects_id": bad.obj_ids, "extra": Evil(trace)}
    path = tmp_path / f"{bad.image_id}.npz"
    np.savez(path, x=bad.features, bbox=bad.boxes, info=np.array(info, dtype=object))
    first, second = read_all(NpzReader(tmp_path, trust_pickle=trust_pickle))
    assert isinstance(first, RawRegions)
    if trust_pickle:
        assert isinstance(second, Unreadable)
        assert second.image_id == bad.image_id
        assert f"imports {os.mkdir.__module__}.mkdir, but vlray runs no code" in second.reason
    else:
        assert_same(second, bad, labels="")
    assert not trace.exists()


def test_detectron2_mode_keeps_classes_and_leaves_attributes(tmp_path: Path) -> None:
    images = some_images(3)
    for image in images:
        written.npz_d2(tmp_path, image)
    for got, image in zip(read_all(NpzReader(tmp_path, trust_pickle=True)), images, strict=True):
        assert_same(got, image, labels="oO")
        assert got.remarks == ("unaligned-attributes",)
        assert got.image_hw == (image.height, image.width)  # not those of the resized image


def test_mcans_features_are_turned(tmp_path: Path) -> None:
    images = some_images(3)
    for image in images:
        written.npz_mcan(tmp_path, image)
    for got, image in zip(read_all(NpzReader(tmp_path)), images, strict=True):
        assert_same(got, image, labels="")
        assert got.image_id == image.image_id  # without .jpg
        assert got.remarks == ("transposed",)
        assert got.visual_feats.flags.c_contiguous


def test_as_many_regions_as_features_are_said_to_be_ambiguous(tmp_path: Path) -> None:
    image = some_images(3, dim=4)[2]
    assert image.features.shape == (4, 4)
    written.npz_mcan(tmp_path, image)
    (got,) = read_all(NpzReader(tmp_path))
    assert got.remarks == ("ambiguous-orientation",)


def test_boxes_alone_are_read(tmp_path: Path) -> None:
    (image,) = some_images(1)
    written.npz_boxes(tmp_path, image)
    (got,) = read_all(NpzReader(tmp_path))
    assert got.visual_feats.shape == (2, 0)
    assert got.remarks == ("no-features",)
    np.testing.assert_array_equal(got.boxes, image.boxes)


def test_openvqas_gqa_files_call_sizes_otherwise(tmp_path: Path) -> None:
    (image,) = some_images(1)
    path = tmp_path / f"{image.image_id}.npz"
    np.savez(path, x=image.features, bbox=image.boxes, width=image.width, height=image.height)
    (got,) = read_all(NpzReader(path))  # a file alone
    assert_same(got, image, labels="")
    assert got.image_hw == (image.height, image.width)


def test_folders_below_are_part_of_the_id(tmp_path: Path) -> None:
    images = some_images(2)
    for image, folder in zip(images, ("train", "val"), strict=True):
        (tmp_path / folder).mkdir()
        written.npz_mcan(tmp_path / folder, image)
    ids = [got.image_id for got in read_all(NpzReader(tmp_path))]
    assert ids == [f"train/{images[0].image_id}", f"val/{images[1].image_id}"]


def test_links_are_followed_once_and_hidden_files_are_not_looked_at(tmp_path: Path) -> None:
    images = some_images(3)
    (tmp_path / "elsewhere").mkdir()
    source = tmp_path / "source"
    source.mkdir()
    written.npz_mcan(tmp_path / "elsewhere", images[0])
    (source / "train").symlink_to(tmp_path / "elsewhere")
    (source / "train" / "up").symlink_to(source)
    written.npz_mcan(source, images[1])
    hidden = written.npz_mcan(source, images[2])
    hidden.rename(source / f"._{hidden.name}")
    (source / ".cache").mkdir()
    written.npz_mcan(source / ".cache", images[2])
    ids = [got.image_id for got in read_all(NpzReader(source))]
    assert ids == [images[1].image_id, f"train/{images[0].image_id}"]


def test_a_damaged_file_leaves_the_others_readable(tmp_path: Path) -> None:
    images = some_images(6)
    paths = [written.npz_caffe(tmp_path, image) for image in images]
    paths[0].write_bytes(paths[0].read_bytes()[:-40])  # cut off
    paths[1].write_bytes(b"")
    np.savez(paths[2], x=images[2].features[1:], bbox=images[2].boxes)  # another number
    np.savez(paths[3], x=images[3].features)
    data = bytearray(paths[4].read_bytes())
    data[200] ^= 255  # one bit of what is compressed
    paths[4].write_bytes(data)
    got = read_all(NpzReader(tmp_path, trust_pickle=True))
    assert [type(item) for item in got] == [Unreadable] * 5 + [RawRegions]
    assert [item.image_id for item in got] == [image.image_id for image in images]
    reasons = [item.reason for item in got[:5] if isinstance(item, Unreadable)]
    assert "features have shape (3, 12), but the image has 4 boxes" in reasons[2]
    assert "has no array bbox; its arrays are x" in reasons[3]
    assert all(reasons)


def test_what_is_no_such_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("nothing here")
    assert not NpzReader.recognizes(tmp_path)
    with pytest.raises(ValueError, match=r"contain no \.npz files"):
        NpzReader(tmp_path)
    np.savez(tmp_path / "weights.npz", layer=np.ones(3))
    assert not NpzReader.recognizes(tmp_path)


def test_declared_sizes_are_checked_before_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 4)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bbox.npy", header.getvalue())
    (read,) = read_all(NpzReader(path))
    assert isinstance(read, Unreadable)
    assert "bbox.npy declares 16,000,000,000,000 bytes, but has" in read.reason

    monkeypatch.setattr(bounds, "MAX_BYTES", 1_000_000)
    np.savez_compressed(path, bbox=np.zeros((2, 4), np.float32), x=np.zeros(10**6, np.float32))
    (read,) = read_all(NpzReader(path))
    assert isinstance(read, Unreadable)
    assert "more than the limit of 1,000,000 for one image" in read.reason
