"""Writer for LXMERT's ten-column TSV; writes the same bytes as Python's ``csv.DictWriter``.

Source:
    airsplay/py-bottom-up-attention, demo/detectron2_mscoco_proposal_maxnms.py: the order and dtypes
    of the fields, the line ends, and zeros if there are no attributes.
"""

from __future__ import annotations

import binascii
import os
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput

# The default of Python's csv module.
LINE_END = b"\r\n"


class TsvExport:
    """Writer that appends lines; on resume, the file is truncated to the last commit."""

    def __init__(
        self,
        path: Path,
        output: RegionOutput,
        image_ids: list[str],
        state: dict[str, int] | None,
    ) -> None:
        """Start or resume an export.

        Raises:
            ValueError: An image id is empty or contains a line break.
        """
        for image_id in image_ids:
            if "\n" in image_id or "\r" in image_id or not image_id:
                raise ValueError(
                    f"the image id {image_id!r} is empty or has a line break, which a TSV cannot "
                    "represent; export to OUT.h5 instead"
                )
        self._images = state["images"] if state else 0
        self._file = path.open("r+b" if state else "wb", buffering=2**20)
        # Drop lines that were written after the last commit.
        self._file.truncate(state["bytes"] if state else 0)
        self._file.seek(0, os.SEEK_END)

    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Write the line for the next image."""
        height, width = regions.image_hw[0].tolist()
        count = len(regions.boxes)
        fields = [
            _quoted(image_id).encode(),
            b"%d" % height,
            b"%d" % width,
            _base64(regions.obj_ids, count, "<i8"),
            _base64(regions.obj_probs, count, "<f4"),
            _base64(regions.attr_ids, count, "<i8"),
            _base64(regions.attr_probs, count, "<f4"),
            b"%d" % count,
            _base64(regions.boxes, count, "<f4"),
            _base64(regions.visual_feats, count, "<f4"),
        ]
        self._file.write(b"\t".join(fields) + LINE_END)
        self._images += 1

    def commit(self) -> dict[str, int]:
        """Flush the lines to disk, and return a state to resume from."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return {"images": self._images, "bytes": self._file.tell()}

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _base64(values: np.ndarray | None, count: int, kind: DTypeLike) -> bytes:
    """Encode numbers as base64; None is encoded as ``count`` zeros."""
    array = np.zeros(count, kind) if values is None else np.ascontiguousarray(values, kind)
    return binascii.b2a_base64(array.data if array.size else b"", newline=False)


def _quoted(image_id: str) -> str:
    # The csv module quotes fields that contain the delimiter or a quotation mark.
    if '"' in image_id or "\t" in image_id:
        return '"' + image_id.replace('"', '""') + '"'
    return image_id
