"""Region files as their producers lay them out, put down from the layouts' own side.

Shapes: R regions of one image, D feature length, C classes.
"""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import lmdb
import numpy as np
import pyarrow as pa
import torch

from vlray.formats.readers.protocol import RawRegions, Reader, Unreadable

CLASSES, ATTRIBUTES, DIM = 1600, 400, 12


@dataclass(frozen=True, eq=False)
class Image:
    """What a detector found; boxes in pixels of the original image."""

    image_id: str
    height: int
    width: int
    boxes: np.ndarray
    features: np.ndarray
    obj_ids: np.ndarray
    obj_probs: np.ndarray
    attr_ids: np.ndarray
    attr_probs: np.ndarray

    def resized(self) -> tuple[float, float]:
        """Height and width with a short side of 800."""
        scale = 800 / min(self.height, self.width)
        return float(round(self.height * scale)), float(round(self.width * scale))


def some_images(count: int = 4, dim: int = DIM, regions: int = 0) -> list[Image]:
    """Images with 2, 3, 4 ... regions, or with the same number."""
    rng = np.random.default_rng(0)
    images = []
    for index in range(count):
        num, height, width = regions or index + 2, 300 + 10 * index, 500 - 10 * index
        corners = rng.uniform(0, 0.4, (num, 2)), rng.uniform(0.6, 1, (num, 2))
        scores = rng.dirichlet(np.full(CLASSES, 0.01), num).astype(np.float32)
        images.append(
            Image(
                image_id=f"COCO_val2014_{index:012d}",
                height=height,
                width=width,
                boxes=(np.hstack(corners) * [width, height, width, height]).astype(np.float32),
                features=rng.gamma(1, 2, (num, dim)).astype(np.float32),
                obj_ids=scores.argmax(axis=1),
                obj_probs=scores.max(axis=1),
                attr_ids=rng.integers(0, ATTRIBUTES, num),
                attr_probs=rng.uniform(0.1, 1, num).astype(np.float32),
            )
        )
    return images


# --- what readers give -------------------------------------------------------------------------


def read_all(reader: Reader, position: int = 0) -> list[RawRegions | Unreadable]:
    """Read to the end, and see that positions are as the protocol says."""
    got = list(reader.read(position))
    assert [at for at, _ in got] == list(range(position + 1, reader.end + 1))
    return [item for _, item in got]


def assert_same(
    got: RawRegions | Unreadable,
    image: Image,
    labels: str = "oOaA",
    boxes: np.ndarray | None = None,
) -> None:
    """Compare to the last bit; ``labels`` are those that the form has: o, O, a, A for scores."""
    assert isinstance(got, RawRegions), got
    assert got.image_id in (image.image_id, str(int(image.image_id[-12:])))
    np.testing.assert_array_equal(got.boxes, image.boxes if boxes is None else boxes)
    np.testing.assert_array_equal(got.visual_feats, image.features)
    for letter, name in zip(
        "oOaA", ("obj_ids", "obj_probs", "attr_ids", "attr_probs"), strict=True
    ):
        values = getattr(got, name)
        if letter in labels:
            np.testing.assert_array_equal(values, getattr(image, name))
        else:
            assert values is None


def assert_resumes(reader: Reader) -> None:
    """Reading from each position gives what reading from 0 would have given."""
    whole = [item.image_id for item in read_all(reader)]
    for position in range(reader.end + 1):
        assert [item.image_id for item in read_all(reader, position)] == whole[position:]


# --- npz ------------------------------------------------------------------------------------------


def npz_caffe(folder: Path, image: Image, attributes: bool = True) -> Path:
    """MILVLG's Caffe modes roi_feats and bbox_feats."""
    info: dict[str, Any] = {
        "image_id": image.image_id,
        "image_h": image.height,
        "image_w": image.width,
        "num_boxes": len(image.boxes),
        "objects_id": image.obj_ids,
        "objects_conf": image.obj_probs,
    }
    if attributes:
        info |= {"attrs_id": image.attr_ids, "attrs_conf": image.attr_probs}
    path = folder / f"{image.image_id}.npz"
    np.savez_compressed(
        path,
        x=torch.from_numpy(image.features),
        bbox=torch.from_numpy(image.boxes),
        num_bbox=len(image.boxes),
        image_h=image.height,
        image_w=image.width,
        info=info,
    )
    return path


def npz_boxes(folder: Path, image: Image) -> Path:
    """MILVLG's Caffe mode bboxes."""
    path = folder / f"{image.image_id}.npz"
    sizes = {"num_bbox": len(image.boxes), "image_h": image.height, "image_w": image.width}
    np.savez_compressed(path, bbox=image.boxes, **sizes)
    return path


def npz_d2(folder: Path, image: Image) -> Path:
    """MILVLG's Detectron2 mode: attributes as tensors, of two different lengths."""
    path = folder / f"{image.image_id}.npz"
    num = len(image.boxes)
    inner = image.resized()
    np.savez_compressed(
        path,
        x=image.features,
        bbox=image.boxes,
        num_bbox=num,
        image_h=image.height,
        image_w=image.width,
        image_h_inner=inner[0],
        image_w_inner=inner[1],
        info={
            "objects": image.obj_ids,
            "cls_prob": all_scores(image),
            "attrs_id": torch.rand(num, ATTRIBUTES),
            "attrs_scores": torch.rand(300, ATTRIBUTES),
        },
    )
    return path


def npz_mcan(folder: Path, image: Image) -> Path:
    """MCAN's: features lie on their side, and the name keeps the image's ending."""
    path = folder / f"{image.image_id}.jpg.npz"
    sizes = {"num_bbox": len(image.boxes), "image_h": image.height, "image_w": image.width}
    np.savez_compressed(path, x=image.features.T, bbox=image.boxes, **sizes)
    return path


def all_scores(image: Image, background: bool = False) -> np.ndarray:
    """(R, C) scores whose maxima are the image's classes; the background wins where it is asked."""
    scores = np.zeros((len(image.boxes), CLASSES + background), np.float32)
    scores[np.arange(len(image.boxes)), image.obj_ids + background] = image.obj_probs
    if background:
        scores[0, 0] = 1
    return scores


# --- MMF, LMDB ------------------------------------------------------------------------------------


def mmf_vmb(image: Image, background: bool = False) -> dict[str, Any]:
    """Info of extract_features_vmb.py."""
    scores = all_scores(image, background)
    return {
        "bbox": image.boxes,
        "num_boxes": len(image.boxes),
        "objects": scores.argmax(axis=1),
        "cls_prob": scores,
        "image_width": image.width,
        "image_height": image.height,
    }


def mmf_frcnn(image: Image, num_features: int = 36) -> dict[str, Any]:
    """Info of extract_features_frcnn.py: sizes are of the resized image."""
    height, width = image.resized()
    return {
        "bbox": image.boxes,
        "num_boxes": num_features,
        "objects": image.obj_ids,
        "cls_prob": image.obj_probs,
        "image_width": width,
        "image_height": height,
    }


def save_npy(folder: Path, image: Image, info: Mapping[str, Any], extra_rows: int = 0) -> None:
    """Both files; with more features than boxes where that is asked."""
    path = folder / f"{image.image_id}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.pad(image.features, [(0, extra_rows), (0, 0)], constant_values=7))
    np.save(folder / f"{image.image_id}_info.npy", np.array(dict(info), dtype=object))


def save_lmdb(path: Path, items: Mapping[str, Any], subdir: bool = True) -> Path:
    """A database as all of these tools write it; bytes are put down as they are."""
    with lmdb.open(str(path), map_size=2**28, subdir=subdir) as env, env.begin(write=True) as txn:
        for key, item in items.items():
            txn.put(key.encode(), item if isinstance(item, bytes) else pickle.dumps(item))
        txn.put(b"keys", pickle.dumps([key.encode() for key in items]))
    return path


def b64(array: np.ndarray) -> str:
    """As the TSVs have arrays."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def volta_of_tsv(image: Image) -> dict[str, Any]:
    """A row of a TSV, every value of it a string."""
    return {
        "img_id": image.image_id,
        "img_h": str(image.height),
        "img_w": str(image.width),
        "objects_id": b64(image.obj_ids.astype(np.int64)),
        "objects_conf": b64(image.obj_probs),
        "attrs_id": b64(image.attr_ids.astype(np.int64)),
        "attrs_conf": b64(image.attr_probs),
        "num_boxes": str(len(image.boxes)),
        "boxes": b64(image.boxes),
        "features": b64(image.features),
        "cls_prob": b64(all_scores(image, background=True)),
        "attrs": None,
        "classes": None,
    }


def volta_of_hdf5(image: Image) -> dict[str, Any]:
    """A group of VOLTA's HDF5, every value of it an array or scalar."""
    return {
        "features": image.features,
        "obj_id": image.obj_ids,
        "obj_conf": image.obj_probs,
        "attr_id": image.attr_ids,
        "attr_conf": image.attr_probs,
        "boxes": image.boxes,
        "img_w": np.int64(image.width),
        "img_h": np.int64(image.height),
        "img_id": image.image_id,
    }


def volta_of_npy(image: Image) -> dict[str, Any]:
    """MMF's info under VOLTA's names, boxes and features as base64."""
    info = mmf_vmb(image)
    return {
        "feature_path": image.image_id,
        "features": base64.b64encode(image.features),
        "img_h": info["image_height"],
        "img_w": info["image_width"],
        "num_boxes": info["num_boxes"],
        "objects": info["objects"],
        "cls_prob": info["cls_prob"],
        "boxes": base64.b64encode(image.boxes),
    }


# --- HDF5 -----------------------------------------------------------------------------------------


def hdf5_volta(path: Path, images: Iterable[Image]) -> Path:
    """A group per image."""
    with h5py.File(path, "w") as file:
        for image in images:
            group = file.create_group(image.image_id)
            for key, value in volta_of_hdf5(image).items():
                if key != "img_id":
                    group[key] = value
    return path


def hdf5_butd(path: Path, images: Sequence[Image], adaptive: bool, spare: int = 2) -> Path:
    """Rows of all images, in another order than by id, and rows that no image has taken."""
    order = list(reversed(images))
    stops = np.cumsum([len(image.boxes) for image in order])
    arrays = {
        "image_features": [image.features for image in order],
        "image_bb": [image.boxes for image in order],
        "spatial_features": [_spatial(image) for image in order],
    }
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            joined = np.concatenate(values) if adaptive else np.stack(values)
            rows = file.create_dataset(name, (len(joined) + spare, *joined.shape[1:]), "f")
            rows[: len(joined)] = joined
        if adaptive:
            file["pos_boxes"] = np.stack([np.r_[0, stops[:-1]], stops], axis=1).astype(np.int32)
    index = {int(image.image_id[-12:]): row for row, image in enumerate(order)}
    with path.with_name(f"{path.stem}_imgid2idx.pkl").open("wb") as out:
        pickle.dump(index, out, protocol=0)  # of Python 2
    return path


def _spatial(image: Image) -> np.ndarray:
    scaled = image.boxes / np.float32([image.width, image.height, image.width, image.height])
    return np.hstack([scaled, scaled[:, 2:] - scaled[:, :2]]).astype(np.float32)


# --- Arrow ----------------------------------------------------------------------------------------


def hf_columns(images: Sequence[Image], rows: int = 36) -> dict[str, list[Any]]:
    """Columns of extracting_data.py, padded with zeros."""

    def pad(values: np.ndarray) -> list[Any]:
        grown = np.zeros((rows, *values.shape[1:]), np.float32)
        grown[: len(values)] = values
        return grown.tolist()

    return {
        "attr_ids": [pad(image.attr_ids) for image in images],
        "attr_probs": [pad(image.attr_probs) for image in images],
        "boxes": [pad(_spatial(image)[:, :4]) for image in images],
        "img_id": [int(image.image_id[-12:]) for image in images],
        "obj_ids": [pad(image.obj_ids) for image in images],
        "obj_probs": [pad(image.obj_probs) for image in images],
        "roi_features": [pad(image.features) for image in images],
        "sizes": [list(image.resized()) for image in images],
        "preds_per_image": [len(image.boxes) for image in images],
    }


def vltk_table(images: Sequence[Image], rows: int = 36) -> pa.Table:
    """The table of vltk's ``<split>.arrow``."""
    columns = hf_columns(images, rows)
    boxes = [
        np.pad(image.boxes, [(0, rows - len(image.boxes)), (0, 0)]).tolist() for image in images
    ]
    matrix = pa.list_(pa.list_(pa.float32()))
    table = pa.table(
        {
            "attr_ids": pa.array(columns["attr_ids"], pa.list_(pa.float32())),
            "box": pa.array(boxes, matrix),
            "features": pa.array(columns["roi_features"], matrix),
            "imgid": [image.image_id for image in images],
            "object_ids": pa.array(columns["obj_ids"], pa.list_(pa.float32())),
        }
    )
    places = {image.image_id: row for row, image in enumerate(images)}
    return table.replace_schema_metadata({"img_to_row_map": json.dumps(places)})


def save_stream(path: Path, table: pa.Table, batch_rows: int = 1) -> Path:
    """An Arrow stream."""
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch_rows)
    return path
