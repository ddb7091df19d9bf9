"""Readers for UNITER's features: a ``.npz`` file for each image, or an LMDB of these arrays.

Shapes: R: regions in one image; D: feature length; K: classes.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgpack
import numpy as np

from vlray.formats.readers.bounds import array_bytes, check_bytes
from vlray.formats.readers.checked import attempt, image_id_of, list_files, numbers, raw_regions
from vlray.formats.readers.lmdb_database import DATA, Database, has_magic
from vlray.formats.readers.npz import check_sizes
from vlray.formats.readers.protocol import RawRegions, Unreadable

_ENDING = ".npz"
_KEYS = b"__keys__"
_NEEDED = {"features", "norm_bb"}
_CLASSES_WITH_BACKGROUND = 1601
_LOOKED_AT = 8  # files
_ZIP = b"PK\x03\x04"


class UniterNpzReader:
    """Reader for UNITER's ``.npz`` files, one for each image.

    ``norm_bb`` (R, 6 or 7) holds the boxes as fractions of the image, then width, height and
    possibly area; the size of the image is not stored. ``features`` is (R, D), ``conf`` (R,) the
    score, and ``soft_labels`` (R, K) the probabilities of all classes, with the background first
    if K is 1601.

    Args:
        source: The folder, or one file.

    Raises:
        ValueError: There is no ``.npz`` file.

    Source:
        ChenRocks/UNITER, scripts/convert_imgdir.py, data/data.py and data/mrm.py.
    """

    name: ClassVar[str] = "uniter-npz"
    pickled: ClassVar[bool] = False

    def __init__(self, source: Path) -> None:
        self._folder, self._names = list_files(source, _ENDING)
        if not self._names:
            raise ValueError(f"{source} and its subfolders contain no .npz files")
        self.end = len(self._names)

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether one of the first files has the arrays ``features`` and ``norm_bb``."""
        folder, names = list_files(source, _ENDING)
        return any(_arrays_in(folder / name) >= _NEEDED for name in names[:_LOOKED_AT])

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, in the order of file names."""
        for index in range(position, self.end):
            name = self._names[index]
            yield index + 1, attempt(image_id_of(name, _ENDING), self._read, name)

    def _read(self, name: str) -> RawRegions:
        image_id = image_id_of(name, _ENDING)
        return _regions(image_id, _from_npz((self._folder / name).read_bytes(), name))


class UniterLmdbReader:
    """Reader for UNITER's LMDB of these arrays, as MessagePack or as ``.npz``.

    Keys are file names, such as ``coco_val2014_000000000042.npz``.

    Args:
        source: The database, or the folder that contains it beside ``nbb_*.json``.

    Raises:
        ValueError: There is no such database.
    """

    name: ClassVar[str] = "lmdb-uniter"
    pickled: ClassVar[bool] = False

    def __init__(self, source: Path) -> None:
        found = _database_in(source)
        if found is None:
            raise ValueError(f"{source} contains no LMDB database")
        self._database = Database(found, _KEYS)
        if not _is_list(self._database.get(_KEYS)):
            raise ValueError(f"{found} has no list of images under {_KEYS.decode()}")
        self.end = self._database.images

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether a database lists its images as JSON."""
        found = _database_in(source)
        try:
            return found is not None and _is_list(Database(found, _KEYS).get(_KEYS))
        except ValueError:
            return False

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, in key order."""
        for key, value in self._database.items(position):
            position += 1
            image_id = image_id_of(key.decode("utf-8", "backslashreplace"), _ENDING)
            yield position, attempt(image_id, _read_value, image_id, value)


def _read_value(image_id: str, value: bytes) -> RawRegions:
    arrays = _from_npz(value, image_id) if value[:4] == _ZIP else _from_msgpack(value, image_id)
    return _regions(image_id, arrays)


def _regions(image_id: str, arrays: Mapping[str, object]) -> RawRegions:
    if missing := _NEEDED - arrays.keys():
        raise ValueError(
            f"the image lacks {' and '.join(sorted(missing))}; it has {', '.join(sorted(arrays))}"
        )
    labels: dict[str, object] = {}
    probs, conf = arrays.get("soft_labels"), arrays.get("conf")
    if "objects_id" in arrays:  # vlray's exports have the labels themselves
        labels = {"obj_ids": arrays["objects_id"], "obj_probs": conf}
        labels |= {"attr_ids": arrays.get("attrs_id"), "attr_probs": arrays.get("attrs_conf")}
    elif probs is not None:
        classes = numbers(probs, "soft_labels")
        if classes.ndim == 2 and classes.shape[1]:
            classes = classes[:, int(classes.shape[1] == _CLASSES_WITH_BACKGROUND) :]
            best = classes.max(axis=1) if conf is None else conf
            labels = {"obj_ids": classes.argmax(axis=1), "obj_probs": best}
    boxes = numbers(arrays["norm_bb"], "norm_bb").astype(np.float32)
    return raw_regions(
        image_id, boxes, arrays["features"], labels=labels, remarks=("normalized-boxes",)
    )


def _from_npz(data: bytes, what: str) -> dict[str, object]:
    """Read an archive's arrays; those that hold objects are skipped."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        check_sizes(archive.zip, what)
        # UNITER's own script stores its argument allow_pickle as an array.
        return {name: archive[name] for name in archive.files if name != "allow_pickle"}


def _from_msgpack(data: bytes, what: str) -> dict[str, object]:
    """Read a mapping from names to arrays, which msgpack_numpy wrote, without its code.

    Raises:
        ValueError: The data are not such a mapping, or an array is damaged.
    """
    try:
        value = msgpack.unpackb(data, raw=False, object_hook=_to_array)
    except (ValueError, msgpack.UnpackException) as error:
        raise ValueError(f"{what} is not valid MessagePack: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{what} has type {type(value).__name__}, not dict")
    return {str(name): values for name, values in value.items()}


def _to_array(item: dict[Any, Any]) -> object:
    """Convert msgpack_numpy's description of a numeric array; other mappings stay as they are."""
    if item.get(b"nd") is not True:
        return item
    kind, shape = item.get(b"type"), tuple(item.get(b"shape", ()))
    if not isinstance(kind, str) or np.dtype(kind).kind not in "biuf":
        raise ValueError(f"an array has the type {kind!r}; only numbers are read")
    dtype, content = np.dtype(kind), item.get(b"data")
    check_bytes(array_bytes(shape, dtype), "an array")
    if not isinstance(content, bytes) or len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array of shape {shape} does not have the bytes of {dtype}")
    return np.frombuffer(content, dtype).reshape(shape)


def _database_in(source: Path) -> Path | None:
    """Return the database in a folder, or one level below."""
    if has_magic(source):
        return source
    if not source.is_dir():
        return None
    return next((path.parent for path in sorted(source.glob(f"*/{DATA}"))), None)


def _is_list(value: bytes | None) -> bool:
    try:
        return value is not None and isinstance(json.loads(value), list)
    except (ValueError, RecursionError):
        return False


def _arrays_in(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return set()
