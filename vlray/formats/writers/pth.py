"""Writer for a folder of ``.pth`` files, the layout of grid-feats-vqa's extraction.

Shapes: D: feature length; H, W: rows and columns of the grid; R: cells, H * W.

Source:
    facebookresearch/grid-feats-vqa, extract_grid_feature.py.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float32

from vlray.formats.writers.folder import FolderExport
from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput


class PthExport(FolderExport):
    """Writer of one tensor (1, D, H, W) in float32 per image."""

    ending: ClassVar[str] = ".pth"

    def __init__(
        self,
        path: Path,
        output: RegionOutput,
        image_ids: list[str],
        state: dict[str, int] | None,
    ) -> None:
        """Start or resume an export.

        Raises:
            ValueError: The output has no grid features, or an image id cannot be a file name.
        """
        if (features := output.info.settings.get("detector.features")) != "grid":
            raise ValueError(
                f"{output.path} has detector.features={features or 'unknown'}, but --format pth "
                "holds grid features, a map for each image; extract them with --features grid, or "
                "export to OUT.tsv, OUT.h5 or a folder of .npz"
            )
        super().__init__(path, output, image_ids, state)

    def encode(self, image_id: str, regions: RegionBatch) -> memoryview:
        """Return an image's map as ``torch.save`` writes it."""
        import torch

        rows, columns = grid_shape(regions.boxes)
        cells = regions.visual_feats.astype(np.float32).reshape(1, rows, columns, -1)
        sink = io.BytesIO()
        # A copy in the order of the shape: the file holds nothing else.
        torch.save(torch.from_numpy(np.ascontiguousarray(cells.transpose(0, 3, 1, 2))), sink)
        return sink.getbuffer()


def grid_shape(boxes: Float32[np.ndarray, "R 4"]) -> tuple[int, int]:
    """Return the rows and columns of a grid from its cells, which follow row by row."""
    columns = int((boxes[:, 1] == boxes[0, 1]).sum())
    return len(boxes) // columns, columns
