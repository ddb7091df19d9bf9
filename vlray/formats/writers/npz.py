"""Writer for a folder of ``.npz`` files in the layout of MILVLG's Caffe modes.

Source:
    MILVLG/bottom-up-attention.pytorch, utils/extract_utils.py (save_roi_features).
"""

from __future__ import annotations

import io
import posixpath
from pathlib import Path

import numpy as np
from pyarrow.fs import LocalFileSystem

from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput
from vlray.storage import files

LONGEST = 200  # bytes of a file name; most file systems allow 255


class NpzExport:
    """Writer that creates one file per image, each atomically."""

    def __init__(
        self,
        path: Path,
        output: RegionOutput,
        image_ids: list[str],
        state: dict[str, int] | None,
    ) -> None:
        """Start or resume an export.

        Raises:
            ValueError: An image id cannot be a file name.
        """
        for image_id in image_ids:
            # Refuse ids that would leave the folder, be hidden or be too long.
            if (
                posixpath.normpath(image_id) != image_id
                or image_id.startswith((".", "/"))
                or "\0" in image_id
                or any(len(name.encode()) > LONGEST for name in image_id.split("/"))
            ):
                raise ValueError(
                    f"the image id {image_id!r} is not a valid file name; export to OUT.tsv instead"
                )
        self._images = state["images"] if state else 0
        self._folder, self._fs = path, LocalFileSystem()
        path.mkdir(parents=True, exist_ok=True)
        files.remove_temporaries(self._fs, str(path))

    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Write the file of the next image."""
        height, width = regions.image_hw[0].tolist()
        count = len(regions.boxes)
        info: dict[str, object] = {
            "image_id": image_id,
            "image_h": height,
            "image_w": width,
            "num_boxes": count,
        }
        if regions.obj_ids is not None:
            info["objects_id"] = regions.obj_ids.astype(np.int64)
        if regions.obj_probs is not None:
            info["objects_conf"] = regions.obj_probs
        if regions.attr_ids is not None:
            info["attrs_id"] = regions.attr_ids.astype(np.int64)
        if regions.attr_probs is not None:
            info["attrs_conf"] = regions.attr_probs
        sink = io.BytesIO()
        np.savez(
            sink,
            x=regions.visual_feats.astype(np.float32),
            bbox=regions.boxes,
            num_bbox=count,
            image_h=height,
            image_w=width,
            info=np.array(info, object),
        )
        files.write_atomic(self._fs, str(self._folder / f"{image_id}.npz"), sink.getbuffer())
        self._images += 1

    def commit(self) -> dict[str, int]:
        """Return a state to resume from; the images' files are on disk already."""
        return {"images": self._images}

    def close(self) -> None:
        """Do nothing; no file is open."""
