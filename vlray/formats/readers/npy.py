"""Folders of MMF: features in ``X.npy``, everything else pickled in ``X_info.npy``.

Shapes: R regions of one image, D feature length, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vlray.formats.readers.checked import (
    attempt,
    class_labels,
    found,
    image_id_of,
    list_files,
    numbers,
    size,
)
from vlray.formats.readers.pickles import read_object_npy, require_trust
from vlray.formats.readers.protocol import Found, Unreadable

_ENDING = ".npy"
_INFO = "_info.npy"
_FULL = "_full.npy"
_MAGIC = b"\x93NUMPY"


class NpyReader:
    """Two files per image: ``X.npy`` (R, D), and ``X_info.npy``, a pickled dictionary.

    The dictionary has ``bbox``, ``num_boxes``, ``objects``, ``cls_prob``, ``image_height`` and
    ``image_width``; ``read_mmf`` says what they mean by which script.

    Args:
        source: The folder, or one ``X.npy``.
        trust_pickle: Whether pickles may be opened; without, there are no boxes to be read.

    Raises:
        ValueError: Pickles are not trusted, or there is no such pair of files.
    """

    name: ClassVar[str] = "npy"
    pickled: ClassVar[bool] = True

    def __init__(self, source: Path, trust_pickle: bool = False) -> None:
        self._folder, self._names = _list_features(source)
        if not self._names:
            raise ValueError(f"{source} has no X.npy with an X_info.npy beside it")
        require_trust(trust_pickle, source, "a folder of MMF's X.npy and X_info.npy")
        self.end = len(self._names)

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Look for an array of features with its ``_info.npy``."""
        folder, names = _list_features(source)
        for name in names:
            if (folder / _info_of(name)).is_file():
                with (folder / name).open("rb") as file:
                    return file.read(len(_MAGIC)) == _MAGIC
        return False

    def read(self, position: int = 0) -> Iterator[tuple[int, Found | Unreadable]]:
        """Yield each image from there on, by name."""
        for index in range(position, self.end):
            name = self._names[index]
            yield index + 1, attempt(image_id_of(name, _ENDING), self._read, name)

    def _read(self, name: str) -> Found:
        info_path = self._folder / _info_of(name)
        if not info_path.is_file():
            raise ValueError(f"{name} has no {info_path.name} beside it, which holds its boxes")
        feats = np.load(self._folder / name, allow_pickle=False)
        with info_path.open("rb") as file:
            info = read_object_npy(file, info_path.name)
        return read_mmf(image_id_of(name, _ENDING), feats, info)


def read_mmf(image_id: str, feats: Any, info: Mapping[str, Any]) -> Found:
    """Take one image out of what MMF's scripts say of it.

    Args:
        image_id: As in the file.
        feats: (R, D).
        info: ``bbox`` (R, 4), ``objects`` (R,), ``image_height``, ``image_width`` and more:

            - of the ``vmb`` script ``cls_prob`` (R, C) and sizes of the original image. Its
              ``num_boxes`` counts those whose score outlived the suppression; whoever reads these
              files takes all rows nevertheless, and so does this;
            - of the ``frcnn`` script ``cls_prob`` (R,). Its sizes are those of the *resized* image
              while boxes are in the original's pixels, ``num_boxes`` is what was asked for, and
              features may have more rows than boxes, which are cut off;
            - of the ``vinvl`` script ``bbox`` (R, 6) in fractions of the image, and classes of
              other words than Visual Genome's 1600, which are left out.

    Raises:
        ValueError: Something is missing, or lengths differ.

    Source:
        facebookresearch/mmf, tools/scripts/features/extract_features_vmb.py,
        frcnn/extract_features_frcnn.py, extract_features_vinvl.py;
        mmf/datasets/databases/readers/feature_readers.py (all rows are read).
    """
    remarks: tuple[str, ...] = ()
    boxes, feats = numbers(info.get("bbox"), "boxes"), numbers(feats, "features")
    cls_prob, count = info.get("cls_prob"), info.get("num_boxes")
    if cls_prob is not None and np.ndim(cls_prob) == 1:
        remarks += ("resized-size",)
        feats = feats[: len(boxes)]
    labels, more = class_labels(info.get("objects"), cls_prob)
    if boxes.ndim == 2 and boxes.shape[1] == 6:
        remarks += ("normalized-boxes", "other-vocabulary")
        labels = {}
    if count is not None and int(count) != len(boxes):
        remarks += ("num-boxes-differs",)
    return found(
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
    """List ``X.npy`` without their ``X_info.npy``, and without what ``--visualize`` leaves."""
    folder, names = list_files(source, _ENDING)
    known = set(names)
    return folder, [
        name
        for name in names
        if not name.endswith(_INFO)
        and not (name.endswith(_FULL) and name.removesuffix(_FULL) + _ENDING in known)
    ]
