"""Readers for features in files of ``torch.save``: VisualBERT's, and grids of grid-feats-vqa.

Shapes: R: regions in one image; D: feature length; H, W: rows and columns of a grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vlray.formats.readers.checked import attempt, image_id_of, list_files, raw_regions, size
from vlray.formats.readers.protocol import RawRegions, Unreadable
from vlray.formats.readers.torch_file import Tensor, TensorFile, is_torch_file

_LOOKED_AT = 3  # files


class ChunkReader:
    """Reader for the features of uclanlp's VisualBERT: a dictionary of all images in one file.

    The keys are file names, such as ``dev-0-0-img0.png.npz``, or numbers. A value is a tuple of
    features (R, D), boxes (R, 4) in pixels of the original image, and confidences (R,), possibly
    followed by height and width; or a row of bottom-up attention's TSV with tensors.

    Args:
        source: The file, such as ``features_train_150.th``.

    Raises:
        ValueError: The file is damaged, or is not such a dictionary.

    Source:
        uclanlp/visualbert, utils/get_image_features/extract_image_features_nlvr.py,
        dataloaders/nlvr_dataset.py and coco_dataset.py.
    """

    name: ClassVar[str] = "visualbert-th"
    pickled: ClassVar[bool] = False

    def __init__(self, source: Path) -> None:
        self._file = TensorFile(source)
        if not _is_chunk(self._file.content):
            raise ValueError(f"{source} is not a dictionary of features and boxes by image")
        self._keys = list(self._file.content)
        self.end = len(self._keys)

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether the file holds features and boxes by image."""
        try:
            return is_torch_file(source) and _is_chunk(TensorFile(source).content)
        except ValueError:
            return False

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, in the order of the dictionary."""
        for index in range(position, self.end):
            image_id = image_id_of(str(self._keys[index]), ".npz")
            yield index + 1, attempt(image_id, self._read, image_id, self._keys[index])

    def _read(self, image_id: str, key: object) -> RawRegions:
        value = self._file.content[key]
        if isinstance(value, Mapping):
            feats, boxes = value.get("features"), value.get("boxes")
            hw = size(value.get("image_h"), value.get("image_w"))
        else:
            feats, boxes, *more = value
            hw = size(more[1], more[2]) if len(more) > 2 else None
        feats, boxes = self._file.array(feats), self._file.array(boxes)
        return raw_regions(image_id, boxes, feats, image_hw=hw)


class GridReader:
    """Reader for grid features: a tensor (1, D, H, W) for each image, in ``ID.pth``.

    The boxes are the cells of the grid, row by row, as fractions of the image; its size is not
    stored.

    Args:
        source: The folder, or one file.

    Raises:
        ValueError: There is no ``.pth`` file.

    Source:
        facebookresearch/grid-feats-vqa, extract_grid_feature.py.
    """

    name: ClassVar[str] = "grid-pth"
    pickled: ClassVar[bool] = False

    def __init__(self, source: Path) -> None:
        self._folder, self._names = list_files(source, ".pth")
        if not self._names:
            raise ValueError(f"{source} and its subfolders contain no .pth files")
        self.end = len(self._names)

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether one of the first files holds a single tensor of four dimensions."""
        folder, names = list_files(source, ".pth")
        return any(_is_grid(folder / name) for name in names[:_LOOKED_AT])

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, in the order of file names."""
        for index in range(position, self.end):
            name = self._names[index]
            yield index + 1, attempt(image_id_of(name, ".pth"), self._read, name)

    def _read(self, name: str) -> RawRegions:
        file = TensorFile(self._folder / name)
        grid = file.array(file.content)
        if grid.ndim != 4 or len(grid) != 1:
            raise ValueError(f"{name} must have the shape (1, D, H, W), but has {grid.shape}")
        rows, columns = grid.shape[2:]
        feats = np.ascontiguousarray(grid[0].transpose(1, 2, 0)).reshape(rows * columns, -1)
        image_id = image_id_of(name, ".pth")
        return raw_regions(image_id, _cells(rows, columns), feats, remarks=("normalized-boxes",))


def _cells(rows: int, columns: int) -> np.ndarray:
    """Divide the unit square into cells, and return their corners row by row."""
    y, x = np.linspace(0, 1, rows + 1), np.linspace(0, 1, columns + 1)
    top, left = np.meshgrid(y[:-1], x[:-1], indexing="ij")
    bottom, right = np.meshgrid(y[1:], x[1:], indexing="ij")
    return np.stack([left, top, right, bottom], axis=-1).reshape(-1, 4)


def _is_chunk(content: Any) -> bool:
    first = next(iter(content.values()), None) if isinstance(content, dict) else None
    if isinstance(first, Mapping):
        return {"features", "boxes"} <= first.keys()
    return isinstance(first, tuple) and len(first) > 2 and isinstance(first[0], Tensor | np.ndarray)


def _is_grid(path: Path) -> bool:
    try:
        content = TensorFile(path).content if is_torch_file(path) else None
    except ValueError:
        return False
    return isinstance(content, Tensor) and len(content.shape) == 4
