"""HDF5 files: VOLTA's groups, and the rows of BUTD-VQA and BAN."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.formats import written
from tests.formats.written import assert_resumes, assert_same, read_all, some_images
from vlray.formats.readers.hdf5 import Hdf5Reader, Hdf5RowsReader
from vlray.formats.readers.protocol import RawRegions, Unreadable


def test_voltas_groups_are_read_by_name(tmp_path: Path) -> None:
    images = some_images()
    source = written.hdf5_volta(tmp_path / "a.h5", reversed(images))
    assert Hdf5Reader.recognizes(source)
    assert not Hdf5RowsReader.recognizes(source)
    reader = Hdf5Reader(source)
    for got, image in zip(read_all(reader), images, strict=True):
        assert_same(got, image)
        assert got.image_hw == (image.height, image.width)
        assert got.remarks == ()
    assert_resumes(reader)


def test_a_damaged_group_leaves_the_others_readable(tmp_path: Path) -> None:
    images = some_images(5)
    source = written.hdf5_volta(tmp_path / "a.h5", images)
    ids = [image.image_id for image in images]
    with h5py.File(source, "a") as file:
        del file[ids[1]]["boxes"]
        del file[ids[2]]["features"]
        file[ids[2]]["features"] = np.ones((2, 12))
        del file[ids[3]]
        file[ids[3]] = 5
    got = read_all(Hdf5Reader(source))
    assert [type(item) for item in got] == [
        RawRegions,
        Unreadable,
        Unreadable,
        Unreadable,
        RawRegions,
    ]
    reasons = [item.reason for item in got if isinstance(item, Unreadable)]
    assert "the group lacks boxes; it contains attr_conf" in reasons[0]
    assert reasons[1] == "features have shape (2, 12), but the image has 4 boxes"
    assert "is not a group" in reasons[2]


@pytest.mark.parametrize("adaptive", [False, True], ids=["fixed", "adaptive"])
def test_rows_of_all_images_are_read_in_their_order(adaptive: bool, tmp_path: Path) -> None:
    images = some_images(regions=0 if adaptive else 3)
    source = written.hdf5_butd(tmp_path / "train36.hdf5", images, adaptive)
    assert Hdf5RowsReader.recognizes(source)
    assert not Hdf5Reader.recognizes(source)
    reader = Hdf5RowsReader(source, trust_pickle=True)
    for got, image in zip(read_all(reader), reversed(images), strict=True):
        assert_same(got, image, labels="")
        assert got.image_id == str(int(image.image_id[-12:]))
        assert got.image_hw == (image.height, image.width)  # out of boxes over their fractions
        assert got.remarks == ("size-from-ratio",)
    assert_resumes(reader)


def test_rows_that_point_elsewhere_are_named(tmp_path: Path) -> None:
    images = some_images(3)
    source = written.hdf5_butd(tmp_path / "train.hdf5", images, adaptive=True)
    with h5py.File(source, "a") as file:
        file["pos_boxes"][1] = [4, 999]
        del file["spatial_features"]
    got = read_all(Hdf5RowsReader(source, trust_pickle=True))
    assert [type(item) for item in got] == [RawRegions, Unreadable, RawRegions]
    assert got[1] == Unreadable(
        "1", "ValueError", "rows 4 to 999 are out of range: image_bb has 11 rows"
    )
    assert isinstance(got[0], RawRegions)
    assert got[0].image_hw is None


def test_rows_want_the_list_of_ids_and_trust_in_it(tmp_path: Path) -> None:
    source = written.hdf5_butd(tmp_path / "train.hdf5", some_images(2), adaptive=True)
    with pytest.raises(ValueError, match=r"train_imgid2idx\.pkl is the list.*--trust-pickle"):
        Hdf5RowsReader(source)
    index = tmp_path / "train_imgid2idx.pkl"
    index.write_bytes(pickle.dumps(Path("a")))
    with pytest.raises(
        ValueError, match=r"imgid2idx\.pkl imports pathlib\S* but vlray runs no code"
    ):
        Hdf5RowsReader(source, trust_pickle=True)
    index.unlink()
    with pytest.raises(ValueError, match=r"requires train_imgid2idx\.pkl, .*same folder"):
        Hdf5RowsReader(source, trust_pickle=True)


@pytest.mark.parametrize("reader", [Hdf5Reader, Hdf5RowsReader])
def test_files_of_another_kind_and_damaged_ones_are_named(reader: Any, tmp_path: Path) -> None:
    source = written.hdf5_volta(tmp_path / "a.h5", some_images())
    data = source.read_bytes()
    source.write_bytes(data[: len(data) // 2])
    assert not reader.recognizes(source)
    with pytest.raises(ValueError, match=r"a\.h5 cannot be opened as HDF5: .*truncated"):
        reader(source)
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["images"] = np.ones(3)
    assert not reader.recognizes(other)
    with pytest.raises(
        ValueError, match=r"one group per image, but its top level contains images|lacks im"
    ):
        reader(other)
    assert not reader.recognizes(tmp_path)


def test_bytes_of_a_name_that_are_no_text_are_spelled(tmp_path: Path) -> None:
    images = some_images(2)
    source = written.hdf5_volta(tmp_path / "a.h5", images)
    with h5py.File(source, "a") as file:
        file.move(images[1].image_id, b"caf\xe9")
    got = read_all(Hdf5Reader(source))
    assert [item.image_id for item in got] == [images[0].image_id, r"caf\xe9"]
    assert isinstance(got[1], RawRegions)


@pytest.mark.parametrize("kind", ["link", "external", "virtual"])
def test_data_in_other_files_is_not_read(kind: str, tmp_path: Path) -> None:
    source = written.hdf5_volta(tmp_path / "a.h5", some_images(2))
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["features"] = np.ones((2, 12), np.float32)
    (tmp_path / "raw").write_bytes(bytes(96))
    with h5py.File(source, "a") as file:
        group = file[next(iter(file))]
        del group["features"]
        if kind == "link":
            group["features"] = h5py.ExternalLink(str(secret), "features")
        elif kind == "external":
            group.create_dataset("features", (2, 12), "f4", external=[(tmp_path / "raw", 0, 96)])
        else:
            layout = h5py.VirtualLayout((2, 12), "f4")
            layout[:] = h5py.VirtualSource(str(secret), "features", (2, 12))
            group.create_virtual_dataset("features", layout)
    first, second = read_all(Hdf5Reader(source))
    assert isinstance(first, Unreadable)
    assert "which vlray does not" in first.reason
    assert isinstance(second, RawRegions)


def test_an_array_of_zeros_that_the_file_does_not_hold_is_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        file.create_dataset("a/boxes", (10, 4), "f4")
        file.create_dataset("a/features", (10, 2**28), "f4", chunks=(1, 2**16))
    (read,) = read_all(Hdf5Reader(tmp_path / "bomb.h5"))
    assert isinstance(read, Unreadable)
    assert read.reason.startswith("/a/features unpacks to 10,737,418,240 bytes, more than the")
    with h5py.File(tmp_path / "rows.hdf5", "w") as file:
        file.create_dataset("image_bb", (2, 3, 4), "f4")
        file.create_dataset("image_features", (2, 3, 2**28), "f4", chunks=(1, 1, 2**16))
    (tmp_path / "rows_imgid2idx.pkl").write_bytes(pickle.dumps({"a": 0, "b": 1}))
    for read in read_all(Hdf5RowsReader(tmp_path / "rows.hdf5", trust_pickle=True)):
        assert isinstance(read, Unreadable)
        assert "/image_features unpacks to 3,221,225,472 bytes" in read.reason
