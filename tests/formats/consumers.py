"""Readers of region files as the projects that consume them document them, for the tests.

Each takes what vlray wrote and an image id, and returns what the project's loader would use: a
mapping from names of columns to arrays. They share no code with vlray.

Shapes: R: regions in one image; D: feature length.
"""

from __future__ import annotations

import base64
import csv
import functools
import io
import json
import pickle
import sys
import tarfile
from pathlib import Path
from typing import Any

import datasets
import h5py
import lmdb
import msgpack
import numpy as np

Arrays = dict[str, Any]


def tsv6(place: Path, image_id: str) -> Arrays:
    """Bottom-up attention's read_tsv.py: six columns, the width before the height."""
    names = ["image_id", "image_w", "image_h", "num_boxes", "boxes", "features"]
    csv.field_size_limit(sys.maxsize)
    with place.open("r") as stream:
        rows = csv.DictReader(stream, delimiter="\t", fieldnames=names)
        (row,) = [row for row in rows if row["image_id"] == image_id]
    arrays = {name: np.frombuffer(base64.b64decode(row[name]), np.float32) for name in names[4:]}
    if count := int(row["num_boxes"]):  # the original fails for images without regions
        arrays = {name: values.reshape(count, -1) for name, values in arrays.items()}
    return {**arrays, "hw": (int(row["image_h"]), int(row["image_w"]))}


def mcan(place: Path, image_id: str) -> Arrays:
    """MCAN, and openvqa for VQA: the matrix of features is transposed."""
    names = {str(int(p.name.split("_")[-1].split(".")[0])): p for p in place.glob("*.npz")}
    archive = np.load(names[str(int(image_id))])
    hw = (int(archive["image_h"]), int(archive["image_w"]))
    return {"features": archive["x"].transpose((1, 0)), "boxes": archive["bbox"], "hw": hw}


def openvqa(place: Path, image_id: str) -> Arrays:
    """Openvqa for GQA."""
    names = {p.name.split(".")[0]: p for p in place.glob("*.npz")}
    archive = np.load(names[image_id])
    hw = (int(archive["height"]), int(archive["width"]))
    return {"features": archive["x"], "boxes": archive["bbox"], "hw": hw}


def cocobu(place: Path, image_id: str) -> Arrays:
    """Self-critical: an archive with one array, and two single arrays."""
    mean = np.load(place / "cocobu_fc" / f"{image_id}.npy")
    features = np.load(place / "cocobu_att" / f"{image_id}.npz")["feat"]
    if len(features):
        np.testing.assert_array_equal(mean, features.mean(0))
    return {"features": features, "boxes": np.load(place / "cocobu_box" / f"{image_id}.npy")}


def mmf(place: Path, image_id: str) -> Arrays:
    """MMF: an array, and a dictionary in an array of objects."""
    info = np.load(place / f"{image_id}_info.npy", allow_pickle=True).item()
    assert info["num_boxes"] == len(info["bbox"])
    return {
        "features": np.load(place / f"{image_id}.npy", allow_pickle=True),
        "boxes": info["bbox"],
        "hw": (info["image_height"], info["image_width"]),
        "obj_ids": info.get("objects"),
    }


def m2_hdf5(place: Path, image_id: str) -> Arrays:
    """M2's ImageDetectionsField: names with the number of the image."""
    with h5py.File(place, "r") as file:
        return {
            "features": file["%d_features" % int(image_id)][()],  # noqa: UP031 - as M2 has it
            "boxes": file[f"{int(image_id)}_boxes"][()],
        }


def butd_hdf5(place: Path, image_id: str) -> Arrays:
    """BUTD-VQA and BAN: rows of all images, and their numbers in a pickle of Python 2."""
    index = pickle.loads(place.with_name(f"{place.stem}_imgid2idx.pkl").read_bytes())
    row = index[int(image_id)]
    with h5py.File(place, "r") as file:
        rows = slice(*file["pos_boxes"][row]) if "pos_boxes" in file else row
        boxes, spatial = file["image_bb"][rows], file["spatial_features"][rows]
        features = file["image_features"][rows]
    assert spatial.shape == (len(boxes), 6)
    if len(boxes):  # the first box of each image in the tests spans it
        width, height = boxes[0, 2:] / spatial[0, 2:4]
        np.testing.assert_allclose(spatial[:, 4] * width, boxes[:, 2] - boxes[:, 0], atol=1e-2)
        np.testing.assert_allclose(spatial[:, 5] * height, boxes[:, 3] - boxes[:, 1], atol=1e-2)
    return {"features": features, "boxes": boxes}


def uniter_npz(place: Path, image_id: str) -> Arrays:
    """UNITER's load_npz: every array has one or two dimensions, and a row for each region."""
    archive = np.load(place / f"{image_id}.npz")
    assert all(array.ndim in (1, 2) for array in archive.values())
    return _uniter(dict(archive))


def lmdb_uniter(place: Path, image_id: str) -> Arrays:
    """UNITER's DetectFeatLmdb: MessagePack with msgpack_numpy's arrays, cut to nbb rows."""
    counts = json.loads((place / "nbb_th0.2_max100_min10.json").read_text())
    name = f"{image_id}.npz"
    with lmdb.open(str(place / "feat_th0.2_max100_min10"), readonly=True, create=False) as env:
        txn = env.begin()
        assert name in json.loads(txn.get(b"__keys__"))
        value = msgpack.unpackb(txn.get(name.encode()), raw=False)
    arrays = {
        key: np.ndarray(item[b"shape"], item[b"type"], item[b"data"])[: counts[name]]
        for key, item in value.items()
    }
    return _uniter(arrays)


def _uniter(arrays: Arrays) -> Arrays:
    boxes = arrays["norm_bb"]
    assert boxes.shape[1] == 6
    np.testing.assert_allclose(boxes[:, 4:], boxes[:, 2:4] - boxes[:, :2], atol=1e-6)
    assert arrays["conf"].shape == (len(boxes),)
    return {"features": np.float32(arrays["features"]), "fractions": boxes[:, :4]}


def lmdb_volta(place: Path, image_id: str) -> Arrays:
    """VOLTA's ImageFeaturesH5Reader, whose base64 is of float32."""
    item = _pickled(place, image_id)
    arrays = {
        name: np.frombuffer(base64.b64decode(item[name]), np.float32)
        for name in ("features", "boxes")
    }
    boxes = arrays["boxes"].reshape(-1, 4)
    features = arrays["features"].reshape(len(boxes), -1 if len(boxes) else 0)
    hw = (int(item["img_h"]), int(item["img_w"]))
    return {"features": features, "boxes": boxes, "hw": hw}


def lmdb_mmf(place: Path, image_id: str) -> Arrays:
    """MMF's LMDBFeatureReader."""
    item = _pickled(place, image_id)
    hw = (item["image_height"], item["image_width"])
    names = {"features": "features", "boxes": "bbox", "obj_ids": "objects"}
    return {"hw": hw, **{name: item[key] for name, key in names.items()}}


def _pickled(place: Path, image_id: str) -> Any:
    with lmdb.open(str(place), readonly=True, lock=False) as env, env.begin() as txn:
        assert image_id.encode() in pickle.loads(txn.get(b"keys"))
        return pickle.loads(txn.get(image_id.encode()))


def webdataset(place: Path, image_id: str) -> Arrays:
    """WebDataset: the key ends at the first dot, and ``.npz`` is decoded by NumPy."""
    for path in sorted(place.glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                key, _, ending = member.name.partition(".")
                if key == image_id:
                    assert ending == "npz"
                    data = archive.extractfile(member)
                    assert data is not None
                    item = np.load(io.BytesIO(data.read()))
                    hw = (int(item["image_height"]), int(item["image_width"]))
                    names = {"features": "visual_feats", "boxes": "boxes", "obj_ids": "obj_ids"}
                    return {"hw": hw, **{name: item[column] for name, column in names.items()}}
    raise KeyError(image_id)


def coco_json(place: Path, image_id: str) -> Arrays:
    """COCO's own API, results beside instances; as pycocotools indexes them."""
    instances = json.loads((place / "instances.json").read_text())
    results = json.loads((place / "results.json").read_text())
    (image,) = [image for image in instances["images"] if image["id"] == int(image_id)]
    found = [item for item in instances["annotations"] if item["image_id"] == int(image_id)]
    assert all(item["category_id"] in {c["id"] for c in instances["categories"]} for item in found)
    assert [item["bbox"] for item in results if item["image_id"] == int(image_id)] == [
        item["bbox"] for item in found
    ]
    boxes = np.array([item["bbox"] for item in found]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return {
        "boxes": boxes.astype(np.float32),
        "hw": (image["height"], image["width"]),
        "obj_ids": [item["category_id"] - 1 for item in found],
    }


def hf(place: Path, image_id: str) -> Arrays:
    """Hugging Face's ``datasets``, with the features that the files describe."""
    rows = [row for split in _load_dataset(place).values() for row in split]
    (row,) = [row for row in rows if row["image_id"] == image_id]
    return {
        "features": np.array(row["visual_feats"], np.float32),
        "boxes": np.array(row["boxes"], np.float32).reshape(-1, 4),
        "hw": (row["image_height"], row["image_width"]),
        "obj_ids": row["obj_ids"],
    }


@functools.lru_cache(maxsize=1)
def _load_dataset(place: Path) -> Any:
    cache = str(place.parent / "cache")
    loaded = datasets.load_dataset(str(place), cache_dir=cache)
    for split in loaded.values():
        assert split.features["obj_ids"].feature.int2str(0) == "o0"
        assert split.features["visual_feats"].feature.length > 0
        assert split.features["boxes"].feature.length == 4
    return loaded


def _indexed(place: Path, image_id: str) -> Any:
    """TSVFile of scene_graph_benchmark and Oscar: seek to a line by the .lineidx beside it."""
    offsets = [int(line) for line in place.with_suffix(".lineidx").read_text().splitlines()]
    with place.open() as stream:
        for offset in reversed(offsets):
            stream.seek(offset)
            key, content = (part.strip() for part in stream.readline().split("\t"))
            if key == image_id:
                return json.loads(content)
    raise KeyError(image_id)


def vinvl_tsv(place: Path, image_id: str) -> Arrays:
    """VinVL: the objects of predictions.tsv."""
    objects = _indexed(place, image_id)["objects"]
    features = [np.frombuffer(base64.b64decode(item["feature"]), np.float32) for item in objects]
    return {
        "features": np.array(features),
        "boxes": np.array([item["rect"] for item in objects], np.float32),
        "obj_ids": [int(item["class"].removeprefix("o")) for item in objects],
    }


def oscar(place: Path, image_id: str) -> Arrays:
    """Oscar's run_captioning.py: vectors with boxes at their end, and labels in the same order."""
    row = _indexed(place, image_id)
    data = np.frombuffer(base64.b64decode(row["features"]), np.float32)
    values = data.reshape(row["num_boxes"], -1) if row["num_boxes"] else np.zeros((0, 6))
    labels = _indexed(place.with_name(place.stem + ".label.tsv"), image_id)
    np.testing.assert_allclose(values[:, -2:], values[:, -4:-2] - values[:, -6:-4], atol=1e-6)
    return {
        "features": values[:, :-6],
        "fractions": values[:, -6:-2],
        "obj_ids": [int(item["class"].removeprefix("o")) for item in labels],
    }
