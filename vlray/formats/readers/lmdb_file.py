"""Reader for LMDB databases from MMF, VOLTA and ViLBERT, with a pickled dictionary per image."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import lmdb
import numpy as np

from vlray.formats.readers.checked import attempt, numbers, raw_regions, size
from vlray.formats.readers.npy import read_mmf
from vlray.formats.readers.pickles import require_trust, unpickle_dict
from vlray.formats.readers.protocol import RawRegions, Unreadable

_DATA = "data.mdb"
_MAGIC = b"\xde\xc0\xef\xbe"  # after the header of the first page
_MAGIC_AT = 16
_KEYS = b"keys"
_TENSORPACK = b"__keys__"
# Bytes of values to copy before the database is closed and reopened: the pages that were read
# count towards this process's memory as long as the database is open.
_CHUNK = 8 * 2**20

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
        self._source = source
        with self._open() as env, env.begin() as txn:
            self._check_whole(env)
            if txn.get(_TENSORPACK) is not None:
                raise ValueError(
                    f"{source} is a tensorpack database, whose serialization is not supported; "
                    "pass the HDF5 file that it was made from with VOLTA's h5_to_td-lmdb.py"
                )
            self.end = txn.stat()["entries"] - (txn.get(_KEYS) is not None)

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether the file has LMDB's magic number; its content is not checked."""
        path = source / _DATA if source.is_dir() else source
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, in key order."""
        last: bytes | None = None
        while chunk := self._read_chunk(last, 0 if last is not None else position):
            for key, value in chunk:
                position += 1
                image_id = key.decode("utf-8", "backslashreplace")
                yield position, attempt(image_id, _read, image_id, value)
            last = chunk[-1][0]

    def _open(self) -> lmdb.Environment:
        try:
            return lmdb.open(
                str(self._source),
                subdir=self._source.is_dir(),
                readonly=True,
                create=False,
                lock=False,  # the database is only read
                readahead=False,
                max_readers=1,
            )
        except lmdb.Error as error:
            raise ValueError(f"{self._source} cannot be opened as LMDB: {error}") from error

    def _check_whole(self, env: lmdb.Environment) -> None:
        """Refuse a truncated file: reading past the end would crash the process (SIGBUS).

        Raises:
            ValueError: The file is shorter than its header states.
        """
        path = self._source / _DATA if self._source.is_dir() else self._source
        actual = path.stat().st_size
        expected = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        if actual < expected:
            raise ValueError(
                f"{path} is truncated ({actual:,} of {expected:,} bytes); copy it again"
            )

    def _read_chunk(self, last: bytes | None, skip: int) -> list[tuple[bytes, bytes]]:
        """Copy the next keys and values.

        Args:
            last: Start after this key; None: at the first key.
            skip: Number of images to skip first.
        """
        chunk: list[tuple[bytes, bytes]] = []
        copied = 0
        with self._open() as env, env.begin() as txn, txn.cursor() as cursor:
            if last is None:
                more = cursor.first()
            else:
                more = cursor.set_range(last)
                if more and cursor.key() == last:
                    more = cursor.next()
            # Only the keys of skipped images are read, not the values.
            while more and copied < _CHUNK:
                if cursor.key() == _KEYS:
                    pass
                elif skip:
                    skip -= 1
                else:
                    chunk.append(cursor.item())
                    copied += len(chunk[-1][1])
                more = cursor.next()
        return chunk


def _read(image_id: str, value: bytes) -> RawRegions:
    item = unpickle_dict(value, f"the value of {image_id!r}")
    if "bbox" in item:
        return read_mmf(image_id, item.get("features"), item)
    boxes = _array(item.get("boxes"), "boxes", np.float32)
    boxes = boxes.reshape(-1, 4) if boxes.ndim == 1 else boxes
    feats = _array(item.get("features"), "features", np.float32)
    if feats.ndim == 1 and len(boxes):
        feats = feats.reshape(len(boxes), -1)
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
