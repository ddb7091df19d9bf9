"""Writer for WebDataset: tar files with a ``.npz`` member for each image."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vlray.formats.writers.base import (
    Export,
    State,
    check_ids,
    class_probs_of,
    file_name_problem,
    npz,
    sizes_of,
)
from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput

IMAGES_PER_SHARD = 1000
_BLOCK = 512  # bytes; tar pads members to whole blocks
_END = bytes(2 * _BLOCK)  # ends an archive


class WebdatasetExport(Export):
    """Writer for ``shard-000000.tar``, ``shard-000001.tar`` ... of some images each.

    The arrays of a member have the names of the columns of an output. A resumed export cuts the
    last archive off at the last commit.
    """

    def __init__(
        self, path: Path, output: RegionOutput, image_ids: list[str], state: State | None
    ) -> None:
        """Start or resume an export.

        Raises:
            ValueError: An image id cannot be WebDataset's key.
        """
        check_ids(image_ids, _problem)
        path.mkdir(parents=True, exist_ok=True)
        self._folder = path
        self._images = state["images"] if state else 0
        self._shard = state["shard"] if state else 0
        self._file = self._open(state["bytes"] if state else 0)

    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Write the member of the next image."""
        if self._images - self._shard * IMAGES_PER_SHARD == IMAGES_PER_SHARD:
            self._end_shard()
            self._shard += 1
            self._file = self._open(0)
        content = npz(arrays_of(regions))
        member = tarfile.TarInfo(f"{image_id}.npz")
        member.size = len(content)
        self._file.write(member.tobuf(tarfile.GNU_FORMAT))
        self._file.write(content)
        self._file.write(bytes(-len(content) % _BLOCK))
        self._images += 1

    def commit(self) -> State:
        """Flush the members to disk, and return a state to resume from."""
        self._sync()
        return {"images": self._images, "shard": self._shard, "bytes": self._file.tell()}

    def finish(self, path: Path) -> None:
        """End the last archive."""
        self._end_shard()

    def close(self) -> None:
        """Close the archive that is open."""
        self._file.close()

    def _open(self, size: int) -> BinaryIO:
        """Open the current archive, and drop what follows the last commit."""
        path = self._folder / f"shard-{self._shard:06d}.tar"
        file = path.open("r+b" if path.exists() else "wb")
        file.truncate(size)
        file.seek(size)
        return file

    def _end_shard(self) -> None:
        self._file.write(_END)
        self._sync()
        self._file.close()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def arrays_of(regions: RegionBatch) -> dict[str, object]:
    """Return the columns of an image as arrays; missing labels are left out."""
    height, width = sizes_of(regions)
    columns = {
        "image_height": np.int32(height),
        "image_width": np.int32(width),
        "boxes": regions.boxes,
        "visual_feats": regions.visual_feats.astype(np.float32),
        "obj_ids": regions.obj_ids,
        "obj_probs": regions.obj_probs,
        "attr_ids": regions.attr_ids,
        "attr_probs": regions.attr_probs,
        "cls_probs": class_probs_of(regions),
    }
    return {name: values for name, values in columns.items() if values is not None}


def _problem(image_id: str) -> str:
    if "." in image_id.rpartition("/")[2]:
        return "has a dot, at which WebDataset ends an image's key; choose another format"
    return file_name_problem(image_id)
