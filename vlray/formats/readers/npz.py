"""Reader for folders with one ``.npz`` per image, from MILVLG, MCAN or openvqa's GQA.

Shapes: R: regions in one image; D: feature length.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.lib.npyio import NpzFile

from vlray.formats.readers.bounds import check_bytes, declared_bytes
from vlray.formats.readers.checked import (
    attempt,
    class_labels,
    image_id_of,
    list_files,
    raw_regions,
    size,
)
from vlray.formats.readers.pickles import LABELS_NEED_TRUST, read_object_npy
from vlray.formats.readers.protocol import RawRegions, Unreadable

_ENDING = ".npz"

_LOOKED_AT = 8  # files; a few damaged ones must not prevent format detection
_LABELS = {
    "obj_ids": "objects_id",
    "obj_probs": "objects_conf",
    "attr_ids": "attrs_id",
    "attr_probs": "attrs_conf",
}


class NpzReader:
    """Reader for one ``.npz`` per image, in a folder or its subfolders.

    Every layout has ``bbox`` (R, 4) in pixels of the original image. The layouts differ as follows:

    - MILVLG, Caffe modes: ``x`` (R, D), ``num_bbox``, ``image_h``, ``image_w``, and the labels in
      ``info``, a pickled dictionary. Mode ``bboxes`` has neither ``x`` nor ``info``.
    - MILVLG, Detectron2 mode: ``info`` has ``objects`` and ``cls_prob``. Attributes are omitted:
      ``attrs_id`` holds probabilities, and the other attribute scores are for all proposals, in a
      different order.
    - MCAN: ``x`` is (D, R); the reader transposes it.
    - openvqa's GQA: the size is in ``height`` and ``width``.

    ``info`` is opened only if pickles are trusted; everything else is read without unpickling.

    Args:
        source: The folder, or one file.
        trust_pickle: Whether ``info`` may be opened.

    Raises:
        ValueError: There is no ``.npz`` file.

    Source:
        MILVLG/bottom-up-attention.pytorch, utils/extract_utils.py and utils/extract_d2features.py;
        MILVLG/openvqa, openvqa/datasets/vqa/vqa_loader.py and data/gqa/gqa_feat_preproc.py.
    """

    name: ClassVar[str] = "npz"
    pickled: ClassVar[bool] = False

    def __init__(self, source: Path, trust_pickle: bool = False) -> None:
        self._folder, self._names = list_files(source, _ENDING)
        if not self._names:
            raise ValueError(
                f"{source} and its subfolders contain no .npz files; pass the folder that "
                "contains them"
            )
        self._trust_pickle = trust_pickle
        self.end = len(self._names)

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether one of the first files is a zip archive with ``bbox.npy``."""
        folder, names = list_files(source, _ENDING)
        return any(_has_boxes(folder / name) for name in names[:_LOOKED_AT])

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, in the order of file names."""
        for index in range(position, self.end):
            name = self._names[index]
            yield index + 1, attempt(image_id_of(name, _ENDING), self._read, name)

    def _read(self, name: str) -> RawRegions:
        with (self._folder / name).open("rb") as file:  # np.load does not close a damaged file
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError(f"{name} must be an archive of arrays, but is a single array")
            assert archive.zip is not None  # numpy closes it only with the archive
            check_sizes(archive.zip, name)
            boxes = archive.get("bbox")
            if boxes is None:
                raise ValueError(
                    f"{name} has no array bbox; its arrays are {', '.join(archive) or '(none)'}"
                )
            feats, remarks = _features(archive, len(boxes))
            labels, more = self._labels(archive, name)
            height = archive.get("image_h", archive.get("height"))
            width = archive.get("image_w", archive.get("width"))
        return raw_regions(
            image_id_of(name, _ENDING),
            boxes,
            feats,
            image_hw=size(height, width),
            labels=labels,
            remarks=remarks + more,
        )

    def _labels(self, archive: Any, name: str) -> tuple[dict[str, object], tuple[str, ...]]:
        if "info" not in archive:
            return {}, ()
        if not self._trust_pickle:
            return {}, (LABELS_NEED_TRUST,)
        with archive.zip.open("info.npy") as file:
            info = read_object_npy(file, f"info of {name}")
        # Only the Detectron2 mode writes "objects"; the Caffe modes write the labels directly.
        if "objects" not in info:
            return {name: info.get(key) for name, key in _LABELS.items()}, ()
        labels, remarks = class_labels(info["objects"], info.get("cls_prob"))
        if "attrs_id" in info:
            remarks += ("unaligned-attributes",)
        return labels, remarks


def check_sizes(archive: zipfile.ZipFile, name: str) -> None:
    """Check the declared sizes before NumPy allocates memory for them.

    Raises:
        ValueError: The archive, or an array in it, is too large.
    """
    size = sum(info.file_size for info in archive.infolist())
    check_bytes(size, name)
    for info in archive.infolist():
        with archive.open(info) as file:
            if file.read(6) != b"\x93NUMPY":
                continue
        with archive.open(info) as file:
            declared = declared_bytes(file)  # type: ignore[arg-type] # a file for reading bytes
        if declared > info.file_size:
            raise ValueError(
                f"{name}: {info.filename} declares {declared:,} bytes, but has {info.file_size:,}"
            )


def _has_boxes(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "bbox.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def _features(archive: NpzFile, num_boxes: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read ``x`` as (R, D), transposing it if stored as (D, R); also return the remarks."""
    if "x" not in archive:
        return np.zeros((num_boxes, 0), np.float32), ("no-features",)
    feats = archive["x"]
    rows, columns = feats.shape if feats.ndim == 2 else (-1, -1)
    # A square matrix fits both layouts, so it is read as (R, D) and flagged.
    if rows == columns == num_boxes:
        return feats, ("ambiguous-orientation",)
    if rows != num_boxes and columns == num_boxes:
        return np.ascontiguousarray(feats.T), ("transposed",)
    return feats, ()
