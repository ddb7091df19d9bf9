"""Forms that captioning, dialog and detection code has on its disks."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import lmdb
import msgpack
import numpy as np
import pytest

from tests.formats import written
from tests.formats.written import Image, assert_resumes, assert_same, read_all, some_images
from vlray.formats.lookup import recognize
from vlray.formats.readers.coco import CocoReader
from vlray.formats.readers.cocobu import CocobuReader
from vlray.formats.readers.protocol import RawRegions, Unreadable
from vlray.formats.readers.uniter import UniterLmdbReader, UniterNpzReader
from vlray.formats.readers.visdial import VisdialReader


def uniter(image: Image, kind: type[np.floating[Any]] = np.float32) -> dict[str, np.ndarray]:
    """Arrays of UNITER's extraction."""
    corners = image.boxes / np.float32([image.width, image.height] * 2)
    return {
        "features": image.features.astype(kind),
        "norm_bb": np.hstack([corners, corners[:, 2:] - corners[:, :2]]).astype(kind),
        "conf": image.obj_probs.astype(kind),
        "soft_labels": written.all_scores(image, background=True).astype(kind),
    }


def fractions(image: Image) -> np.ndarray:
    return uniter(image)["norm_bb"][:, :4]


def test_uniters_files_are_read_with_their_classes(tmp_path: Path) -> None:
    images = some_images(3)
    for image in images:
        np.savez_compressed(tmp_path / f"{image.image_id}.npz", **uniter(image))
    assert recognize(tmp_path) == "uniter-npz"
    reader = UniterNpzReader(tmp_path)
    for got, image in zip(read_all(reader), images, strict=True):
        assert isinstance(got, RawRegions)
        # written.all_scores lets the background win over the first region's class.
        assert_same(got, image, labels="oO", boxes=fractions(image))
        assert got.remarks == ("normalized-boxes",)
    assert_resumes(reader)


@pytest.mark.parametrize("compressed", [False, True])
def test_uniters_databases_are_read_in_both_ways(compressed: bool, tmp_path: Path) -> None:
    images = some_images(3)
    folder = tmp_path / "coco_val2014" / "feat_th0.2_max100_min10"
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**24) as env, env.begin(write=True) as txn:
        for image in images:
            arrays = uniter(image, np.float16)
            if compressed:  # with the argument that np.savez takes for an array
                sink = io.BytesIO()
                np.savez_compressed(sink, **arrays, allow_pickle=True)
                value = sink.getvalue()
            else:
                value = msgpack.packb({name: as_map(array) for name, array in arrays.items()})
            txn.put(f"{image.image_id}.npz".encode(), value)
        txn.put(b"__keys__", json.dumps([f"{i.image_id}.npz" for i in images]).encode())
    assert recognize(folder) == recognize(folder.parent) == "lmdb-uniter"
    reader = UniterLmdbReader(folder.parent)
    for got, image in zip(read_all(reader), images, strict=True):
        assert isinstance(got, RawRegions)
        np.testing.assert_array_equal(got.visual_feats, image.features.astype(np.float16))
        np.testing.assert_array_equal(got.obj_ids, image.obj_ids)
        np.testing.assert_allclose(got.boxes, fractions(image), atol=1e-3)
    assert_resumes(reader)


def as_map(array: np.ndarray) -> dict[bytes, object]:
    """An array in the form of msgpack_numpy."""
    about = {b"nd": True, b"type": array.dtype.str, b"kind": b"", b"shape": array.shape}
    return {**about, b"data": array.tobytes()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({b"type": "|O"}, "only numbers are read"),
        ({b"shape": (10**9, 10**9)}, "more than the limit"),
        ({b"data": b"12"}, "does not have the bytes"),
    ],
)
def test_forged_arrays_of_a_database_are_refused(
    change: dict[bytes, object], reason: str, tmp_path: Path
) -> None:
    (image,) = some_images(1)
    arrays = {name: as_map(array) for name, array in uniter(image).items()}
    arrays["features"] |= change
    with lmdb.open(str(tmp_path), map_size=2**24) as env, env.begin(write=True) as txn:
        txn.put(b"1.npz", msgpack.packb(arrays))
        txn.put(b"__keys__", b'["1.npz"]')
    (got,) = read_all(UniterLmdbReader(tmp_path))
    assert isinstance(got, Unreadable)
    assert reason in got.reason


def test_self_criticals_folders_are_read(tmp_path: Path) -> None:
    images = some_images(3)
    for name in ("cocobu_att", "cocobu_fc", "cocobu_box"):
        (tmp_path / name).mkdir()
    for number, image in enumerate(images):
        np.savez_compressed(tmp_path / "cocobu_att" / f"{number}", feat=image.features)
        np.save(tmp_path / "cocobu_fc" / f"{number}", image.features.mean(0))
        np.save(tmp_path / "cocobu_box" / f"{number}", image.boxes)
    assert recognize(tmp_path) == recognize(tmp_path / "cocobu_att") == "cocobu"
    reader = CocobuReader(tmp_path / "cocobu_att")
    for got, image in zip(read_all(reader), images, strict=True):
        assert_same(got, image, labels="")
    assert_resumes(reader)
    (tmp_path / "cocobu_box" / "1.npy").unlink()
    missing = read_all(CocobuReader(tmp_path))[1]
    assert isinstance(missing, Unreadable)
    assert "cocobu_box/1.npy, which contains the boxes, is missing" in missing.reason


def test_features_without_boxes_name_the_missing_folder(tmp_path: Path) -> None:
    (tmp_path / "x_att").mkdir()
    np.savez(tmp_path / "x_att" / "1", feat=np.ones((2, 3), np.float32))
    with pytest.raises(ValueError, match="has vectors but no boxes; copy x_box"):
        CocobuReader(tmp_path)


@pytest.mark.parametrize("name", ["image_ids", "image_id"])
def test_visdials_arrays_are_read(name: str, tmp_path: Path) -> None:
    images = some_images(3, regions=4)
    path = tmp_path / "features_faster_rcnn_x101_val.h5"
    with h5py.File(path, "w") as file:
        file[name] = np.arange(len(images))
        file["features"] = np.stack([image.features for image in images])
        file["boxes"] = np.stack([image.boxes for image in images])
        file["classes"] = np.stack([image.obj_ids + 1 for image in images]).astype(np.float32)
        file["scores"] = np.stack([image.obj_probs for image in images])
        file.attrs["split"] = "val"
    assert recognize(path) == "visdial-hdf5"
    reader = VisdialReader(path)
    for got, image in zip(read_all(reader), images, strict=True):
        assert_same(got, image, labels="oO")
        assert got.remarks == ("background-first",)
    assert_resumes(reader)


def test_cocos_results_are_grouped_by_image(tmp_path: Path) -> None:
    results = [
        {"image_id": image, "category_id": 10 + n, "bbox": [n, 2, 30, 40], "score": 0.5}
        for n, image in enumerate([7, 9, 7])
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    assert recognize(path) == "coco-json"
    seven, nine = read_all(CocoReader(path))
    assert isinstance(seven, RawRegions)
    assert seven.image_id == "7"
    assert seven.boxes.tolist() == [[0, 2, 30, 42], [2, 2, 32, 42]]
    assert seven.obj_ids is not None
    assert seven.obj_ids.tolist() == [10, 12]
    assert seven.image_hw is None
    assert isinstance(nine, RawRegions)
    assert_resumes(CocoReader(path))


def test_cocos_categories_become_consecutive_ids_with_names(tmp_path: Path) -> None:
    document = {
        "images": [{"id": 5, "height": 10, "width": 20}, {"id": 6, "height": 11, "width": 21}],
        "annotations": [{"id": 1, "image_id": 6, "category_id": 44, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 44, "name": "bottle"}, {"id": 1, "name": "person"}],
    }
    path = tmp_path / "instances_val.json"
    path.write_text(json.dumps(document))
    reader = CocoReader(path)
    assert reader.vocabulary == (("person", "bottle"), ())
    empty, one = read_all(reader)
    assert isinstance(empty, RawRegions)
    assert isinstance(one, RawRegions)
    assert (empty.image_hw, len(empty.boxes)) == ((10, 20), 0)
    assert one.obj_ids is not None
    assert one.obj_ids.tolist() == [1]
    assert one.obj_probs is None


def test_other_json_is_not_taken_for_cocos(tmp_path: Path) -> None:
    for name, text in {"a": '{"questions": []}', "b": "[1, 2", "c": "[{", "d": "text"}.items():
        (tmp_path / name).write_text(text)
        assert not CocoReader.recognizes(tmp_path / name)
    (tmp_path / "e").write_text('[{"image_id": 1, "bbox": [1, 2, null, 4]}]')
    with pytest.raises(ValueError, match="not x, y, width, height"):
        CocoReader(tmp_path / "e")


def test_an_archive_with_other_arrays_is_not_uniters(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("features.npy", b"")
    assert not UniterNpzReader.recognizes(tmp_path)
