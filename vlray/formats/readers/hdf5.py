"""Readers for HDF5 files: VOLTA's, with a group per image, and BUTD-VQA's and BAN's, with rows.

Shapes: N: images; R: regions in one image; S: regions in all images; D: feature length.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np

from vlray.formats.readers.bounds import array_bytes, check_bytes
from vlray.formats.readers.checked import attempt, raw_regions, size
from vlray.formats.readers.pickles import require_trust, unpickle_dict
from vlray.formats.readers.protocol import RawRegions, Unreadable
from vlray.settings.wording import counted
from vlray.storage.files import escape_bytes

_LABELS = {
    "obj_ids": "obj_id",
    "obj_probs": "obj_conf",
    "attr_ids": "attr_id",
    "attr_probs": "attr_conf",
}
_ROWS = ("image_features", "image_bb")
_INDEX = "_imgid2idx.pkl"


class Hdf5Reader:
    """Reader for VOLTA's HDF5 files, which have a group per image.

    A group is named after the image id and holds ``features``, ``boxes`` and labels. Boxes are in
    pixels of the original image, whose size is ``img_h`` and ``img_w``. Images are read in the
    order of their names.

    Args:
        source: The file.

    Raises:
        ValueError: The file is damaged, or does not have this layout.

    Source:
        e-bug/volta, features_extraction/tsv_to_h5.py, detectron2_proposal_maxnms.py and
        detectron2_given_box_maxnms.py.
    """

    name: ClassVar[str] = "hdf5"
    pickled: ClassVar[bool] = False

    def __init__(self, source: Path) -> None:
        self._source = source
        with opened(source) as file:
            self._names = sorted(
                file, key=os.fsencode
            )  # encoded, since h5py returns bytes for names that are not UTF-8
            has_groups = bool(self._names) and isinstance(file[self._names[0]], h5py.Group)
        if not has_groups:
            raise ValueError(
                f"{source} must have one group per image, but its top level contains "
                f"{_list(self._names[:8])}"
            )
        self.end = len(self._names)

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether the first member of the file is a group with features or boxes."""
        try:
            with opened(source) as file:
                member = file[next(iter(file))] if len(file) else None
                return isinstance(member, h5py.Group) and bool({"features", "boxes"} & set(member))
        except ValueError:
            return False

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, in the order of names."""
        with h5py.File(self._source, "r") as file:
            for index in range(position, self.end):
                name = self._names[index]
                yield index + 1, attempt(id_of(name), _read_group, file, name)


class Hdf5RowsReader:
    """Reader for BUTD-VQA's and BAN's HDF5 files, whose arrays hold all images.

    With a fixed number of boxes per image, ``image_features`` is (N, R, D) and ``image_bb`` is
    (N, R, 4). With an adaptive number, they are (S, D) and (S, 4), and ``pos_boxes`` (N, 2) holds
    each image's first row and the row after the last. A pickle in the same folder maps image ids
    to indices along N: ``train36_imgid2idx.pkl`` for ``train36.hdf5``. The file has no image
    sizes; they are computed from ``spatial_features``, which holds the boxes as fractions of the
    image's width and height.

    Args:
        source: The ``.hdf5`` file.
        trust_pickle: Whether the pickle of ids may be opened.

    Raises:
        ValueError: The pickle is missing or not trusted, or the file does not have this layout.

    Source:
        hengyuan-hu/bottom-up-attention-vqa, tools/detection_features_converter.py;
        jnhwkim/ban-vqa, tools/adaptive_detection_features_converter.py.
    """

    name: ClassVar[str] = "butd-hdf5"
    pickled: ClassVar[bool] = True

    def __init__(self, source: Path, trust_pickle: bool = False) -> None:
        self._source = source
        with opened(source) as file:
            missing = [name for name in _ROWS if name not in file]
        if missing:
            raise ValueError(f"{source} lacks {' and '.join(missing)} at its top level")
        index = source.with_name(source.stem + _INDEX)
        if not index.is_file():
            raise ValueError(
                f"{source} requires {index.name}, which maps image ids to rows; copy it into the "
                "same folder"
            )
        require_trust(trust_pickle, index, "the list of image ids of an HDF5 file")
        self.companions = (index,)
        rows = unpickle_dict(index.read_bytes(), index.name)
        self._images = sorted((int(row), str(image_id)) for image_id, row in rows.items())
        self.end = len(self._images)

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether the file has both arrays."""
        try:
            with opened(source) as file:
                return all(name in file for name in _ROWS)
        except ValueError:
            return False

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, in row order."""
        with h5py.File(self._source, "r") as file:
            for index in range(position, self.end):
                row, image_id = self._images[index]
                yield index + 1, attempt(image_id, _read_rows, file, row, image_id)


@contextlib.contextmanager
def opened(source: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Raises:
        ValueError: The file is damaged or not HDF5.
    """
    try:
        with h5py.File(source, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{source} cannot be opened as HDF5: {error}") from error


def check_link(group: h5py.Group, name: str | bytes) -> None:
    """Refuse data that HDF5 would read from other files.

    Raises:
        ValueError: The entry is a link to another file, or a dataset stored in other files.
    """
    key = name if isinstance(name, bytes) else name.encode()
    # The high-level get(getlink=True) fails for names that are not UTF-8.
    if group.id.links.get_info(key).type == h5py.h5l.TYPE_EXTERNAL:
        raise ValueError(f"{id_of(name)} is a link to another file, which vlray does not follow")
    entry = group.get(name)
    if isinstance(entry, h5py.Dataset) and (entry.external or entry.is_virtual):
        raise ValueError(f"{id_of(name)} is stored in other files, which vlray does not read")


def id_of(name: str | bytes) -> str:
    """Return the name of an entry as an image id; undecodable bytes are escaped."""
    return escape_bytes(os.fsdecode(name))


def _list(names: Iterable[str | bytes]) -> str:
    return ", ".join(map(id_of, names)) or "nothing"


def _read_group(file: h5py.File, name: str | bytes) -> RawRegions:
    check_link(file, name)
    group = file[name]
    if not isinstance(group, h5py.Group):
        raise ValueError("the entry for this image is not a group of arrays")
    for key in group:
        check_link(group, key)
    keys = (*_LABELS.values(), "img_h", "img_w")
    values = {key: taken(group[key], ()) for key in keys if key in group}
    for key in ("features", "boxes"):
        if key not in group:
            raise ValueError(f"the group lacks {key}; it contains {_list(group)}")
    return raw_regions(
        id_of(name),
        taken(group["boxes"], ()),
        taken(group["features"], ()),
        image_hw=size(values.get("img_h"), values.get("img_w")),
        labels={label: values.get(key) for label, key in _LABELS.items()},
    )


def _read_rows(file: h5py.File, row: int, image_id: str) -> RawRegions:
    for name in ("pos_boxes", *_ROWS):
        if name in file:
            check_link(file, name)
    index: Any = row
    # Files with an adaptive number of boxes have pos_boxes.
    if "pos_boxes" in file:
        start, stop = (int(edge) for edge in file["pos_boxes"][row])
        index = slice(start, stop)
        if not 0 <= start <= stop <= len(file["image_bb"]):
            raise ValueError(
                f"rows {start} to {stop} are out of range: image_bb has "
                f"{counted(len(file['image_bb']), 'row')}"
            )
    elif not 0 <= row < len(file["image_bb"]):
        raise ValueError(
            f"row {row} is out of range: image_bb has {counted(len(file['image_bb']), 'row')}"
        )
    boxes = taken(file["image_bb"], index)
    image_hw = None
    if "spatial_features" in file:
        image_hw = _size_of_ratio(boxes, taken(file["spatial_features"], index))
    remarks = () if image_hw is None else ("size-from-ratio",)
    return raw_regions(
        image_id,
        boxes,
        taken(file["image_features"], index),
        image_hw=image_hw,
        remarks=remarks,
    )


def taken(dataset: h5py.Dataset, index: Any) -> Any:
    """Read a dataset, or the rows of one image, after a check of the declared size.

    Chunks that a file does not hold are read as zeros, so that a small file may declare any size.
    """
    shape = dataset.shape or ()
    if index != ():
        shape = (index.stop - index.start if isinstance(index, slice) else 1, *shape[1:])
    check_bytes(array_bytes(shape, dataset.dtype), id_of(dataset.name or "the array"))
    return dataset[index]


def _size_of_ratio(boxes: np.ndarray, fractions: np.ndarray) -> tuple[float, float] | None:
    """Compute an image's size from boxes in pixels and as fractions; None if inconsistent."""
    sides = []
    for column in (3, 2):  # y2 for the height, x2 for the width: never 0 unless the box is empty
        positive = fractions[:, column] > 0
        if not positive.any():
            return None
        # The median is robust against single outliers.
        side = float(np.median(boxes[positive, column] / fractions[positive, column]))
        # If the side is not a whole number, the fractions do not refer to the image.
        if abs(side - round(side)) > 0.01:
            return None
        sides.append(float(round(side)))
    return sides[0], sides[1]
