"""Writers for LMDB databases: VOLTA's, MMF's and UNITER's.

LMDB keeps a database consistent when its process is killed, so an export resumes after the last
commit; images that were written after it are written again.
"""

from __future__ import annotations

import base64
import json
import pickle
from abc import abstractmethod
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from vlray.formats.writers.base import Export, State, check_ids, class_probs_of, sizes_of
from vlray.formats.writers.mmf import mmf_info
from vlray.formats.writers.uniter import DATABASE, NBB, packed, uniter_arrays
from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput

_LONGEST_KEY = 511  # bytes, LMDB's limit
_IMAGES_PER_TRANSACTION = 32  # the pages of a transaction are in memory


class LmdbBase(Export):
    """Writer for a database with a value for each image, and a list of the keys."""

    database = ""
    """Folder of the database in OUT; empty: OUT itself."""

    def __init__(
        self, path: Path, output: RegionOutput, image_ids: list[str], state: State | None
    ) -> None:
        """Create the database, or resume an export.

        Raises:
            ValueError: An image id is too long to be a key.
        """
        check_ids(image_ids, self._problem)
        self._image_ids, self._path = image_ids, path
        self._images = state["images"] if state else 0
        self.counts = _counts(output, image_ids)
        folder = path / self.database
        folder.mkdir(parents=True, exist_ok=True)
        # vlray holds a lock of its own on the export.
        self._env = lmdb.open(str(folder), map_size=_map_size(output, self.counts), lock=False)
        self._txn = self._env.begin(write=True)

    def _problem(self, image_id: str) -> str:
        if not image_id:
            return "is empty, but LMDB needs a key"
        if len(self.key_of(image_id)) > _LONGEST_KEY:
            return f"is longer than LMDB's limit of {_LONGEST_KEY} bytes"
        return ""

    def key_of(self, image_id: str) -> bytes:
        """Return the key of an image."""
        return image_id.encode()

    @abstractmethod
    def value_of(self, image_id: str, regions: RegionBatch) -> bytes:
        """Return the value of an image."""

    @abstractmethod
    def list_of(self, keys: list[bytes]) -> tuple[bytes, bytes]:
        """Return the key and the value of the list of keys."""

    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Write the next image."""
        self._txn.put(self.key_of(image_id), self.value_of(image_id, regions))
        self._images += 1
        if self._images % _IMAGES_PER_TRANSACTION == 0:
            self._renew()

    def commit(self) -> State:
        """Commit the transaction, and return a state to resume from."""
        self._renew()
        return {"images": self._images}

    def finish(self, path: Path) -> None:
        """Write the list of keys."""
        self._txn.put(*self.list_of([self.key_of(image_id) for image_id in self._image_ids]))
        self._renew()

    def close(self) -> None:
        """Close the database; what was not committed is dropped."""
        self._txn.abort()
        self._env.close()

    def _renew(self) -> None:
        self._txn.commit()
        self._txn = self._env.begin(write=True)


class VoltaLmdbExport(LmdbBase):
    """Writer for VOLTA's and ViLBERT's database: pickled dictionaries with base64 arrays.

    Source:
        e-bug/volta, data/mscoco/convert_coco_lmdb.py, volta/datasets/_image_features_reader.py.
    """

    def value_of(self, image_id: str, regions: RegionBatch) -> bytes:
        """Return the pickled dictionary of an image."""
        height, width = sizes_of(regions)
        item: dict[str, Any] = {"img_id": image_id, "img_h": height, "img_w": width}
        item["num_boxes"] = len(regions.boxes)
        for name, values, kind in (
            ("boxes", regions.boxes, "<f4"),
            ("features", regions.visual_feats, "<f4"),
            ("objects_id", regions.obj_ids, "<i8"),
            ("objects_conf", regions.obj_probs, "<f4"),
            ("attrs_id", regions.attr_ids, "<i8"),
            ("attrs_conf", regions.attr_probs, "<f4"),
            ("cls_prob", class_probs_of(regions), "<f4"),
        ):
            if values is not None:
                item[name] = base64.b64encode(values.astype(kind).tobytes())
        return pickle.dumps(item)

    def list_of(self, keys: list[bytes]) -> tuple[bytes, bytes]:
        """Return the pickled list of keys."""
        return b"keys", pickle.dumps(keys)


class MmfLmdbExport(LmdbBase):
    """Writer for MMF's database: pickled dictionaries with arrays.

    Source:
        facebookresearch/mmf, tools/scripts/features/lmdb_conversion.py.
    """

    def value_of(self, image_id: str, regions: RegionBatch) -> bytes:
        """Return the pickled dictionary of an image."""
        features = regions.visual_feats.astype(np.float32)
        item = {"feature_path": image_id, "features": features, **mmf_info(regions)}
        item.setdefault("objects", None)
        item.setdefault("cls_prob", None)
        return pickle.dumps(item)

    def list_of(self, keys: list[bytes]) -> tuple[bytes, bytes]:
        """Return the pickled list of keys."""
        return b"keys", pickle.dumps(keys)


class UniterLmdbExport(LmdbBase):
    """Writer for UNITER's database, and the JSON file of the number of boxes beside it."""

    database = DATABASE

    def key_of(self, image_id: str) -> bytes:
        """Return the file name that UNITER gives to an image."""
        return f"{image_id}.npz".encode()

    def value_of(self, image_id: str, regions: RegionBatch) -> bytes:
        """Return an image's arrays as MessagePack."""
        return packed(uniter_arrays(regions))

    def list_of(self, keys: list[bytes]) -> tuple[bytes, bytes]:
        """Return the list of keys as JSON."""
        return b"__keys__", json.dumps([key.decode() for key in keys]).encode()

    def finish(self, path: Path) -> None:
        """Write the list of keys, and the number of boxes of each image."""
        super().finish(path)
        names = [self.key_of(image_id).decode() for image_id in self._image_ids]
        counts = dict(zip(names, self.counts, strict=True))
        (self._path / NBB).write_text(json.dumps(counts), encoding="utf-8")


def _counts(output: RegionOutput, image_ids: list[str]) -> list[int]:
    """Return the number of regions of each selected image."""
    selected = set(image_ids)
    counts: list[int] = []
    for batch in output.iter_batches(["image_id", "num_boxes"], batch_size=1 << 14):
        pairs = zip(*(column.to_pylist() for column in batch.columns), strict=True)
        counts += [count for image_id, count in pairs if image_id in selected]
    return counts


def _map_size(output: RegionOutput, counts: list[int]) -> int:
    """Return an upper bound of the database's size; the file grows only to what it needs."""
    first = next(output.iter_batches(batch_size=1))
    values: int = sum(
        first.schema.field(name).type.value_type.list_size
        for name in ("visual_feats", "cls_probs")
        if name in first.schema.names
    )
    # Base64 of float32 takes 5.4 bytes a value; labels and boxes take less than 200 a region. A
    # resumed export may write some images twice.
    per_region = 6 * values + 200
    return 2 * (sum(counts) * per_region + len(counts) * 2**14) + 2**26
