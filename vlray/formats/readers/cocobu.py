"""Reader for the folders of self-critical's captioning code: vectors, and boxes beside them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from vlray.formats.readers.bounds import load_npy
from vlray.formats.readers.checked import attempt, image_id_of, list_files, raw_regions
from vlray.formats.readers.npz import check_sizes
from vlray.formats.readers.protocol import RawRegions, Unreadable

_ENDING = ".npz"
_VECTORS, _BOXES = "_att", "_box"
_KEYS = ("feat", "z")  # "z" is what the published test features have
_LOOKED_AT = 8  # files


class CocobuReader:
    """Reader for ``X_att/ID.npz`` with the array ``feat`` (R, D), and ``X_box/ID.npy`` (R, 4).

    ``X_fc``, the mean vectors, is not needed. Boxes are in pixels of the original image, whose size
    the folders do not have.

    Args:
        source: The folder that contains ``X_att`` and ``X_box``, or ``X_att`` itself.

    Raises:
        ValueError: There is no such folder, or it has no boxes beside it.

    Source:
        ruotianluo/self-critical.pytorch, scripts/make_bu_data.py, captioning/data/dataloader.py.
    """

    name: ClassVar[str] = "cocobu"
    pickled: ClassVar[bool] = False

    def __init__(self, source: Path) -> None:
        folder = _find(source)
        if folder is None:
            raise ValueError(f"{source} has no folder named X_att with .npz files")
        self._vectors, self._boxes = folder, _boxes_beside(folder)
        if not self._boxes.is_dir():
            raise ValueError(
                f"{folder} has vectors but no boxes; copy {self._boxes.name} into the same folder"
            )
        _, self._names = list_files(folder, _ENDING)
        self.end = len(self._names)
        # The boxes of a folder that was named itself are outside it.
        is_inside = self._boxes.is_relative_to(source)
        self.companions = () if is_inside else tuple(sorted(self._boxes.rglob("*.npy")))

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether one of the first files is an archive with ``feat.npy``."""
        folder = _find(source)
        if folder is None:
            return False
        _, names = list_files(folder, _ENDING)
        return any(_has_vectors(folder / name) for name in names[:_LOOKED_AT])

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, in the order of file names."""
        for index in range(position, self.end):
            name = self._names[index]
            yield index + 1, attempt(image_id_of(name, _ENDING), self._read, name)

    def _read(self, name: str) -> RawRegions:
        with (self._vectors / name).open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError(f"{name} must be an archive of arrays, but is a single array")
            assert archive.zip is not None  # numpy closes it only with the archive
            check_sizes(archive.zip, name)
            key = next((key for key in _KEYS if key in archive), None)
            if key is None:
                raise ValueError(f"{name} has no array feat; its arrays are {', '.join(archive)}")
            feats = archive[key]
        path = self._boxes / (name.removesuffix(_ENDING) + ".npy")
        if not path.is_file():
            raise ValueError(
                f"{path.parent.name}/{path.name}, which contains the boxes, is missing"
            )
        return raw_regions(image_id_of(name, _ENDING), load_npy(path, path.name), feats)


def _find(source: Path) -> Path | None:
    """Return the folder of vectors in a folder, or the folder itself if it is one."""
    if not source.is_dir():
        return None
    if source.name.endswith(_VECTORS):
        return source
    below = sorted(p for p in source.iterdir() if p.name.endswith(_VECTORS) and p.is_dir())
    return below[0] if below else None


def _boxes_beside(folder: Path) -> Path:
    return folder.with_name(folder.name.removesuffix(_VECTORS) + _BOXES)


def _has_vectors(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    return len(names) == 1 and names[0].removesuffix(".npy") in _KEYS
