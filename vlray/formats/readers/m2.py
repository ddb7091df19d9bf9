"""Reader for the HDF5 file of M2 (meshed-memory-transformer), with datasets named after images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np

from vlray.formats.readers.checked import attempt, raw_regions
from vlray.formats.readers.hdf5 import check_link, id_of, opened, taken
from vlray.formats.readers.protocol import RawRegions, Unreadable

_FEATURES, _BOXES, _PROBS = _ENDINGS = "_features", "_boxes", "_cls_prob"
_BACKGROUND_FIRST = 1601  # Visual Genome's 1,600 classes, and class 0 for the background


class M2Reader:
    """Reader for ``ID_features`` (R, D), ``ID_boxes`` (R, 4) and ``ID_cls_prob`` (R, classes).

    Boxes are in pixels of the original image, whose size the file does not have. If there are 1601
    classes, the first one is the background. Images are read in the order of their names.

    Args:
        source: The file.

    Raises:
        ValueError: The file is damaged, or does not have this layout.

    Source:
        aimagelab/meshed-memory-transformer, data/field.py (ImageDetectionsField).
    """

    name: ClassVar[str] = "m2-hdf5"
    pickled: ClassVar[bool] = False

    def __init__(self, source: Path) -> None:
        self._source = source
        with opened(source) as file:
            names = [name for name in file if isinstance(name, str) and name.endswith(_FEATURES)]
        self._ids = sorted((name.removesuffix(_FEATURES) for name in names), key=os.fsencode)
        if not self._ids:
            raise ValueError(f"{source} has no datasets named ID{_FEATURES} at its top level")
        self.end = len(self._ids)

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether one of the first entries has a name of this format."""
        try:
            with opened(source) as file:
                names = [name for name, _ in zip(file, range(3), strict=False)]
                return any(_is_entry(file, name) for name in names)
        except ValueError:
            return False

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, in the order of names."""
        with h5py.File(self._source, "r") as file:
            for index in range(position, self.end):
                image_id = self._ids[index]
                yield index + 1, attempt(id_of(image_id), _read, file, image_id)


def _is_entry(file: h5py.File, name: str | bytes) -> bool:
    """Return whether an entry is an array of an image that has vectors and boxes."""
    ending = next((e for e in _ENDINGS if isinstance(name, str) and name.endswith(e)), "")
    if not ending:
        return False
    image_id = str(name).removesuffix(ending)
    return all(isinstance(file.get(f"{image_id}{e}"), h5py.Dataset) for e in (_FEATURES, _BOXES))


def _read(file: h5py.File, image_id: str) -> RawRegions:
    names = [f"{image_id}{ending}" for ending in _ENDINGS]
    present = [name for name in names if name in file]
    for name in present:
        check_link(file, name)
    if names[1] not in present:
        raise ValueError(f"the file lacks {names[1]}, the boxes of this image")
    labels: dict[str, object] = {}
    if names[2] in present:
        probs = np.asarray(taken(file[names[2]], ()))
        if probs.ndim == 2 and probs.shape[1]:
            probs = probs[:, int(probs.shape[1] == _BACKGROUND_FIRST) :]
            labels = {"obj_ids": probs.argmax(axis=1), "obj_probs": probs.max(axis=1)}
    boxes, feats = taken(file[names[1]], ()), taken(file[names[0]], ())
    return raw_regions(id_of(image_id), boxes, feats, labels=labels)
