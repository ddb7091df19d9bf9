"""Reader for the HDF5 arrays of the VisDial challenge's starter code.

Shapes: N: images; R: regions in one image; D: feature length.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np

from vlray.formats.readers.checked import attempt, raw_regions
from vlray.formats.readers.hdf5 import check_link, opened, taken
from vlray.formats.readers.protocol import RawRegions, Unreadable


class VisdialReader:
    """Reader for the arrays of the VisDial challenge's starter code.

    ``image_ids`` (N,), ``features`` (N, R, D), ``boxes`` (N, R, 4) in pixels of the original image,
    ``classes`` (N, R) and ``scores`` (N, R). Class 0 is the background. There are no image sizes.

    Args:
        source: The file.

    Raises:
        ValueError: The file does not have this layout.

    Source:
        batra-mlp-lab/visdial-challenge-starter-pytorch, data/extract_features_detectron.py,
        visdialch/data/readers.py (ImageFeaturesHdfReader).
    """

    name: ClassVar[str] = "visdial-hdf5"
    pickled: ClassVar[bool] = False

    def __init__(self, source: Path) -> None:
        self._source = source
        with opened(source) as file:
            if not _is_visdial(file):
                raise ValueError(f"{source} lacks image_ids, features or boxes at its top level")
            ids = taken(file[_id_name(file)], slice(0, len(file[_id_name(file)])))
        self._ids = [str(image_id) for image_id in np.asarray(ids).tolist()]
        self.end = len(self._ids)

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether the file has ids, features and boxes."""
        try:
            with opened(source) as file:
                return _is_visdial(file)
        except ValueError:
            return False

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, in row order."""
        with h5py.File(self._source, "r") as file:
            for index in range(position, self.end):
                yield index + 1, attempt(self._ids[index], _read_visdial, file, index, self._ids)


def _id_name(file: h5py.File) -> str:
    return "image_ids" if "image_ids" in file else "image_id"


def _is_visdial(file: h5py.File) -> bool:
    names = (_id_name(file), "features", "boxes")
    return all(isinstance(file.get(name), h5py.Dataset) for name in names)


def _read_visdial(file: h5py.File, row: int, ids: list[str]) -> RawRegions:
    names = [name for name in ("features", "boxes", "classes", "scores") if name in file]
    for name in names:
        check_link(file, name)
    arrays = {name: taken(file[name], row) for name in names}
    labels: dict[str, object] = {}
    remarks: tuple[str, ...] = ()
    if "classes" in arrays:
        # Regions that no class claimed have class 0 and score 0.
        classes = np.asarray(arrays["classes"]).astype(np.int64)
        labels = {"obj_ids": np.maximum(classes - 1, 0), "obj_probs": arrays.get("scores")}
        remarks = ("background-first",)
    return raw_regions(
        ids[row], arrays["boxes"], arrays["features"], labels=labels, remarks=remarks
    )
