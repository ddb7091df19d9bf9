"""LXMERT's TSV of ten columns, written as ``csv.DictWriter`` of Python writes it.

Source:
    airsplay/py-bottom-up-attention, demo/detectron2_mscoco_proposal_maxnms.py: the order and types
    of the fields, the line ends, and zeros where there are no attributes.
"""

from __future__ import annotations

import binascii
import os
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput

LINE_END = b"\r\n"


class TsvExport:
    """Appends lines; what is behind the last commit is cut off before it goes on."""

    def __init__(
        self,
        place: Path,
        output: RegionOutput,
        image_ids: list[str],
        state: dict[str, int] | None,
    ) -> None:
        """Begin or go on.

        Raises:
            ValueError: An id has a line break.
        """
        for image_id in image_ids:
            if "\n" in image_id or "\r" in image_id or not image_id:
                raise ValueError(
                    f"the id {image_id!r} has a line break or nothing: no TSV holds it"
                )
        self._images = state["images"] if state else 0
        self._file = place.open("r+b" if state else "wb", buffering=2**20)
        self._file.truncate(state["bytes"] if state else 0)
        self._file.seek(0, os.SEEK_END)

    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Write the next line."""
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
        """Make the lines last."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return {"images": self._images, "bytes": self._file.tell()}

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _base64(values: np.ndarray | None, count: int, kind: DTypeLike) -> bytes:
    """Encode numbers; zeros where there are none."""
    array = np.zeros(count, kind) if values is None else np.ascontiguousarray(values, kind)
    return binascii.b2a_base64(array.data if array.size else b"", newline=False)


def _quoted(image_id: str) -> str:
    if '"' in image_id or "\t" in image_id:
        return '"' + image_id.replace('"', '""') + '"'
    return image_id
