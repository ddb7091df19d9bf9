"""Reader for WebDataset's tar files that ``vlray convert`` writes: a ``.npz`` for each image."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from vlray.formats.readers.bounds import check_bytes
from vlray.formats.readers.checked import attempt, list_files, raw_regions, size
from vlray.formats.readers.npz import check_sizes
from vlray.formats.readers.protocol import RawRegions, Unreadable
from vlray.storage.files import escape_bytes

_TAR, _ENDING = ".tar", ".npz"
_LABELS = ("obj_ids", "obj_probs", "attr_ids", "attr_probs")


class WebdatasetReader:
    """Reader for tar files whose members are named ``ID.npz``, in the order of the archives.

    The arrays have the names of the columns of a vlray output: ``boxes``, ``visual_feats``,
    ``image_height``, ``image_width`` and labels.

    Args:
        source: The folder, or one archive.

    Raises:
        ValueError: There is no such archive.
    """

    name: ClassVar[str] = "webdataset"
    pickled: ClassVar[bool] = False

    def __init__(self, source: Path) -> None:
        self._folder, self._archives = list_files(source, _TAR)
        # Name, archive, offset and size of each member.
        self._members = [
            (name, number, offset, size)
            for number, archive in enumerate(self._archives)
            for name, offset, size in _members(self._folder / archive)
        ]
        if not self._members:
            raise ValueError(f"{source} has no tar archives with members named ID{_ENDING}")
        self.end = len(self._members)

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether the first member of the first archive has ``boxes.npy``."""
        folder, names = list_files(source, _TAR)
        try:
            name, offset, size = next(_members(folder / names[0]))
            with (folder / names[0]).open("rb") as file:
                return "boxes" in _arrays(file, offset, size, name)
        except (IndexError, StopIteration, ValueError, OSError):
            return False

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on."""
        for index in range(position, self.end):
            name = self._members[index][0]
            yield index + 1, attempt(_id_of(name), self._read, index)

    def _read(self, index: int) -> RawRegions:
        name, number, offset, member_size = self._members[index]
        with (self._folder / self._archives[number]).open("rb") as file:
            arrays = _arrays(file, offset, member_size, name)
        if missing := {"boxes", "visual_feats"} - arrays.keys():
            raise ValueError(f"{name} lacks {' and '.join(sorted(missing))}")
        return raw_regions(
            _id_of(name),
            arrays["boxes"],
            arrays["visual_feats"],
            image_hw=size(arrays.get("image_height"), arrays.get("image_width")),
            labels={label: arrays.get(label) for label in _LABELS},
        )


def _members(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size of the members of an archive that are images."""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isreg() and member.name.endswith(_ENDING):
                    yield member.name, member.offset_data, member.size
                archive.members = []  # type: ignore[attr-defined] # tarfile would keep them all
    except tarfile.TarError as error:
        raise ValueError(f"{path} is a damaged tar archive: {error}") from error


def _arrays(file: io.BufferedReader, offset: int, size: int, what: str) -> dict[str, np.ndarray]:
    check_bytes(size, what)
    file.seek(offset)
    try:
        with np.load(io.BytesIO(file.read(size)), allow_pickle=False) as archive:
            check_sizes(archive.zip, what)
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # NumPy and zipfile can raise anything on damaged data
        raise ValueError(f"{what} is damaged: {error}") from error


def _id_of(name: str) -> str:
    return escape_bytes(name.removesuffix(_ENDING))
