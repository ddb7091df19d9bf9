"""Writer for grid features: a ``.pth`` file with one tensor for each image.

Shapes: R: cells of one image; D: feature length; H, W: rows and columns of the grid.

Source:
    facebookresearch/grid-feats-vqa, extract_grid_feature.py; facebookresearch/mmf,
    mmf/datasets/databases/readers/feature_readers.py (CHWFeatureReader).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from vlray.formats.writers.base import FolderExport, State
from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput


class GridExport(FolderExport):
    """Writer for ``ID.pth`` with a tensor (1, D, H, W)."""

    def __init__(
        self, path: Path, output: RegionOutput, image_ids: list[str], state: State | None
    ) -> None:
        """Start or resume an export.

        Raises:
            ValueError: The first image's regions are not the cells of a grid.
        """
        columns = ["image_height", "image_width", "num_boxes", "boxes"]
        shape_of(image_ids[0], np.array(output.read(image_ids[:1], columns)["boxes"][0].as_py()))
        super().__init__(path, output, image_ids, state)

    def files_of(self, image_id: str, regions: RegionBatch) -> Iterator[tuple[str, memoryview]]:
        """Yield the file of one image.

        Raises:
            ValueError: The image's regions are not the cells of a grid.
        """
        rows, columns = shape_of(image_id, regions.boxes)
        cells = regions.visual_feats.astype(np.float32).reshape(rows, columns, -1)
        tensor = torch.from_numpy(np.ascontiguousarray(cells.transpose(2, 0, 1)[None]))
        sink = io.BytesIO()
        torch.save(tensor, sink)
        yield f"{image_id}.pth", sink.getbuffer()


def shape_of(image_id: str, boxes: np.ndarray) -> tuple[int, int]:
    """Return the number of rows and columns of a grid, whose cells are listed row by row.

    Raises:
        ValueError: The boxes are not the cells of a grid.
    """
    boxes = boxes.reshape(-1, 4)
    tops, lefts = np.unique(boxes[:, 1]), np.unique(boxes[:, 0])
    corners = np.stack(np.meshgrid(lefts, tops), axis=-1).reshape(-1, 2)
    if not len(boxes) or not np.array_equal(corners, boxes[:, :2]):
        raise ValueError(
            f"the regions of {image_id!r} are not the cells of a grid; grid features are extracted "
            "with `vlray extract --features grid`"
        )
    return len(tops), len(lefts)
