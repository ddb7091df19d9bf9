"""What each written form looks like from outside: names, types and shapes of one image's arrays."""

from __future__ import annotations

import json
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import lmdb
import msgpack
import numpy as np
import pyarrow.parquet as pq
import torch


def header(name: str, place: Path) -> list[str]:
    """Return a line for each array of the image "0", and for each file that belongs to the form."""
    if name.startswith("tsv"):
        fields = place.read_bytes().split(b"\r\n")[0].split(b"\t")
        return [field.decode() if len(field) < 5 else f"{len(field)} letters" for field in fields]
    if name.endswith("hdf5"):
        with h5py.File(place) as file:
            own = {k: v for k, v in file.items() if k.startswith("0") or not k[0].isdigit()}
            return [f"{key}: {_of(own[key][()])}" for key in sorted(own)]
    if name.startswith("lmdb"):
        return _of_lmdb(place)
    if name == "coco-json":
        document = json.loads((place / "instances.json").read_text())
        items = {key: value[0] for key, value in document.items() if value and key != "info"}
        items["results"] = json.loads((place / "results.json").read_text())[0]
        return [f"{key}: {', '.join(item)}" for key, item in items.items()]
    if name == "hf":
        (path,) = sorted(place.glob("data/s0-*.parquet"))[:1]
        return [f"{field.name}: {field.type}" for field in pq.read_schema(path)]
    if name == "webdataset":
        with tarfile.open(place / "shard-000000.tar") as archive:
            return archive.getnames()[:2]
    lines = []
    for path in sorted(place.rglob("0*")):
        if path.suffix == ".pth":
            tensor = torch.load(path, weights_only=True)
            lines.append(f"{path.name}: {tensor.dtype} {tuple(tensor.shape)}")
            continue
        content = np.load(path, allow_pickle=True)
        if isinstance(content, np.ndarray) and content.dtype == object:
            content = content.item()
        arrays = content if isinstance(content, Mapping) else {"": content}
        where = path.relative_to(place)
        lines += [
            f"{where} {key}: {_of(value)}".replace(" :", ":") for key, value in arrays.items()
        ]
    return lines


def _of_lmdb(place: Path) -> list[str]:
    folders = [place, *sorted(path for path in place.iterdir() if path.is_dir())]
    folder = next(path for path in folders if (path / "data.mdb").is_file())
    with lmdb.open(str(folder), readonly=True, lock=False) as env, env.begin() as txn:
        keys = [key.decode() for key, _ in txn.cursor()]
        value = txn.get(b"0") or txn.get(b"0.npz")
    try:
        item = pickle.loads(value)
    except pickle.UnpicklingError:
        packed = msgpack.unpackb(value)
        item = {k: np.ndarray(v[b"shape"], v[b"type"], v[b"data"]) for k, v in packed.items()}
    lines = [f"{key}: {_of(content)}" for key, content in item.items()]
    files = sorted(path.name for path in place.iterdir() if path.is_file())
    return [" ".join(keys[:2] + keys[-1:]), *lines, " ".join(files)]


def _of(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.item()
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str} {value.shape}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return ", ".join(value) if isinstance(value, Mapping) else type(value).__name__
