"""Reader for MMF's folders: features are in ``X.npy``, everything else in ``X_info.npy``.

Shapes: R: regions in one image; D: feature length; C: classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vlray.formats.readers.bounds import load_npy
from vlray.formats.readers.checked import (
    attempt,
    class_labels,
    image_id_of,
    list_files,
    numbers,
    raw_regions,
    size,
)
from vlray.formats.readers.pickles import read_object_npy, require_trust
from vlray.formats.readers.protocol import RawRegions, Unreadable

_ENDING = ".npy"
_INFO = "_info.npy"
_FULL = "_full.npy"
_MAGIC = b"\x93NUMPY"
_EXPORTED = {"obj_probs": "objects_conf", "attr_ids": "attrs_id", "attr_probs": "attrs_conf"}


class NpyReader:
    """Reader for two files per image: ``X.npy`` (R, D), and ``X_info.npy``, a pickled dictionary.

    The dictionary has ``bbox``, ``num_boxes``, ``objects``, ``cls_prob``, ``image_height`` and
    ``image_width``; their meaning depends on the script that wrote them (see ``read_mmf``).

    Args:
        source: The folder, or one ``X.npy``.
        trust_pickle: Whether pickles may be opened; must be true, since boxes are pickled.

    Raises:
        ValueError: Pickles are not trusted, or there is no ``X.npy``.
    """

    name: ClassVar[str] = "mmf"
    pickled: ClassVar[bool] = True

    def __init__(self, source: Path, trust_pickle: bool = False) -> None:
        self._folder, self._names = _list_features(source)
        if not self._names:
            raise ValueError(
                f"{source} has no pair of files X.npy and X_info.npy; pass a folder that contains "
                "both"
            )
        require_trust(trust_pickle, source, "a folder of MMF's X.npy and X_info.npy")
        self.end = len(self._names)

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether the first ``X.npy`` with an ``X_info.npy`` has numpy's magic string."""
        folder, names = _list_features(source)
        for name in names:
            if (folder / _info_of(name)).is_file():
                with (folder / name).open("rb") as file:
                    return file.read(len(_MAGIC)) == _MAGIC
        return False

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, in the order of file names."""
        for index in range(position, self.end):
            name = self._names[index]
            yield index + 1, attempt(image_id_of(name, _ENDING), self._read, name)

    def _read(self, name: str) -> RawRegions:
        info_path = self._folder / _info_of(name)
        if not info_path.is_file():
            raise ValueError(f"{info_path.name}, which contains the boxes, is missing")
        feats = load_npy(self._folder / name, name)
        with info_path.open("rb") as file:
            info = read_object_npy(file, info_path.name)
        return read_mmf(image_id_of(name, _ENDING), feats, info)


def read_mmf(image_id: str, feats: object, info: Mapping[str, Any]) -> RawRegions:
    """Convert the features and the dictionary that MMF's scripts write for one image.

    Args:
        image_id: Id in the file.
        feats: (R, D) feature vectors.
        info: ``bbox`` (R, 4), ``objects`` (R,), ``image_height``, ``image_width`` and further
            entries, depending on the script:

            - ``vmb`` script: ``cls_prob`` is (R, C), and the size is the original image's.
              ``num_boxes`` counts the regions with a score after suppression, but MMF's readers
              use all rows, and so does this one.
            - ``frcnn`` script: ``cls_prob`` is (R,). The size is the *resized* image's, but boxes
              are in pixels of the original image. ``num_boxes`` is the requested number. There may
              be more feature vectors than boxes; the surplus is dropped.
            - ``vinvl`` script: ``bbox`` is (R, 6), as fractions of the image. The classes are not
              Visual Genome's 1600, so labels are omitted.

    Raises:
        ValueError: An array is missing, or the lengths differ.

    Source:
        facebookresearch/mmf, tools/scripts/features/extract_features_vmb.py,
        frcnn/extract_features_frcnn.py, extract_features_vinvl.py;
        mmf/datasets/databases/readers/feature_readers.py (all rows are read).
    """
    remarks: tuple[str, ...] = ()
    boxes, feats = numbers(info.get("bbox"), "boxes"), numbers(feats, "features")
    cls_prob, count = info.get("cls_prob"), info.get("num_boxes")
    # The frcnn script writes one score per region.
    if cls_prob is not None and np.ndim(cls_prob) == 1:
        remarks += ("resized-size",)
        feats = feats[: len(boxes)]
    labels, more = class_labels(info.get("objects"), cls_prob)
    # vlray's exports have the labels and scores under bottom-up attention's names, too.
    labels |= {name: info[key] for name, key in _EXPORTED.items() if key in info}
    # The vinvl script writes six columns.
    if boxes.ndim == 2 and boxes.shape[1] == 6:
        remarks += ("normalized-boxes", "other-vocabulary")
        labels = {}
    if count is not None and int(count) != len(boxes):
        remarks += ("num-boxes-differs",)
    return raw_regions(
        image_id,
        boxes,
        feats,
        image_hw=size(info.get("image_height"), info.get("image_width")),
        labels=labels,
        remarks=remarks + more,
    )


def _info_of(name: str) -> str:
    return name.removesuffix(_ENDING) + _INFO


def _list_features(source: Path) -> tuple[Path, list[str]]:
    """List the ``X.npy`` files, without ``X_info.npy`` and the ``X_full.npy`` of an ``X.npy``.

    MMF's option ``--visualize`` writes ``X_full.npy``.
    """
    folder, names = list_files(source, _ENDING)
    all_names = set(names)
    return folder, [
        name
        for name in names
        if not name.endswith(_INFO)
        and not (name.endswith(_FULL) and name.removesuffix(_FULL) + _ENDING in all_names)
    ]
