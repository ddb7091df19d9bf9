"""Reader for LMDB databases from MMF, VOLTA and ViLBERT, with a pickled dictionary per image."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from vlray.formats.readers.checked import attempt, numbers, raw_regions, size
from vlray.formats.readers.lmdb_database import Database, has_magic
from vlray.formats.readers.npy import read_mmf
from vlray.formats.readers.pickles import require_trust, unpickle_dict
from vlray.formats.readers.protocol import RawRegions, Unreadable

_KEYS = b"keys"
_TENSORPACK = b"__keys__"

_LABELS: dict[str, tuple[tuple[str, ...], type[np.generic]]] = {
    "obj_ids": (("objects_id", "obj_id"), np.int64),
    "obj_probs": (("objects_conf", "obj_conf"), np.float32),
    "attr_ids": (("attrs_id", "attr_id"), np.int64),
    "attr_probs": (("attrs_conf", "attr_conf"), np.float32),
}


class LmdbReader:
    """Reader for databases with a pickled dictionary per image.

    The keys are the image ids; the extra key ``keys``, which lists them, is skipped. Images are
    read in key order. MMF's dictionaries have ``bbox`` and are read like those in MMF's folders
    (``npy.read_mmf``). VOLTA's and ViLBERT's have ``boxes``; their layout depends on what the
    database was converted from:

    - TSV: all entries are base64.
    - HDF5: all entries are arrays.
    - MMF's folders: boxes and features are base64.

    Args:
        source: The folder with ``data.mdb``, or such a file.
        trust_pickle: Whether pickles may be opened; must be true.

    Raises:
        ValueError: Pickles are not trusted, or the source is not such a database.

    Source:
        facebookresearch/mmf, tools/scripts/features/lmdb_conversion.py; e-bug/volta,
        features_extraction/h5_to_lmdb.py and npy_to_lmdb.py, data/mscoco/convert_coco_lmdb.py,
        volta/datasets/_image_features_reader.py.
    """

    name: ClassVar[str] = "lmdb"
    pickled: ClassVar[bool] = True

    def __init__(self, source: Path, trust_pickle: bool = False) -> None:
        require_trust(trust_pickle, source, "an LMDB database of region features")
        self._database = Database(source, _KEYS)
        if self._database.get(_TENSORPACK) is not None:
            raise ValueError(
                f"{source} is a tensorpack database, whose serialization is not supported; "
                "pass the HDF5 file that it was made from with VOLTA's h5_to_td-lmdb.py"
            )
        self.end = self._database.images

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether the file has LMDB's magic number; its content is not checked."""
        return has_magic(source)

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, in key order."""
        for key, value in self._database.items(position):
            position += 1
            image_id = key.decode("utf-8", "backslashreplace")
            yield position, attempt(image_id, _read, image_id, value)


def _read(image_id: str, value: bytes) -> RawRegions:
    item = unpickle_dict(value, f"the value of {image_id!r}")
    if "bbox" in item:
        return read_mmf(image_id, item.get("features"), item)
    boxes = _array(item.get("boxes"), "boxes", np.float32)
    boxes = boxes.reshape(-1, 4) if boxes.ndim == 1 else boxes
    feats = _array(item.get("features"), "features", np.float32)
    if feats.ndim == 1 and bool(len(boxes)) == bool(feats.size):  # of base64
        feats = feats.reshape(len(boxes), -1 if len(boxes) else 0)
    height = _number(item.get("img_h", item.get("image_h")))
    width = _number(item.get("img_w", item.get("image_w")))
    if "objects" in item:  # MMF's content under VOLTA's names
        info = {**item, "bbox": boxes, "image_height": height, "image_width": width}
        return read_mmf(image_id, feats, info)
    labels = {}
    for name, (keys, dtype) in _LABELS.items():
        key = next((key for key in keys if item.get(key) is not None), None)
        labels[name] = None if key is None else _array(item[key], name, dtype)
    return raw_regions(image_id, boxes, feats, image_hw=size(height, width), labels=labels)


def _array(value: object, what: str, dtype: type[np.generic]) -> np.ndarray:
    """Return an array unchanged, or decode base64 text to an array with this dtype."""
    if not isinstance(value, str | bytes):
        return numbers(value, what)
    return np.frombuffer(base64.b64decode(value, validate=True), dtype)


def _number(value: object) -> object:
    return float(value) if isinstance(value, str | bytes) else value
