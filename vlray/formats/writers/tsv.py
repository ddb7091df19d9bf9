"""Writers for TSV files of ten columns (LXMERT) and of six (bottom-up attention).

The ten columns are written as Python's ``csv.DictWriter`` writes them, byte for byte.

Source:
    airsplay/py-bottom-up-attention, demo/detectron2_mscoco_proposal_maxnms.py: the order and dtypes
    of the fields, the line ends, and zeros if there are no attributes;
    peteanderson80/bottom-up-attention, tools/generate_tsv.py.
"""

from __future__ import annotations

import binascii
import os
from abc import abstractmethod
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from vlray.formats.writers.base import Export, State, check_ids, sizes_of
from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput

# The default of Python's csv module.
LINE_END = b"\r\n"


class _TsvExport(Export):
    """Writer that appends lines; on resume, the file is truncated to the last commit."""

    def __init__(
        self, path: Path, output: RegionOutput, image_ids: list[str], state: State | None
    ) -> None:
        """Start or resume an export.

        Raises:
            ValueError: An image id is empty or contains a line break.
        """
        check_ids(image_ids, _problem)
        self._images = state["images"] if state else 0
        self._file = path.open("r+b" if state else "wb", buffering=2**20)
        # Drop lines that were written after the last commit.
        self._file.truncate(state["bytes"] if state else 0)
        self._file.seek(0, os.SEEK_END)

    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Write the line for the next image."""
        fields = self._fields(image_id, regions)
        self._file.write(b"\t".join(fields) + LINE_END)
        self._images += 1

    @abstractmethod
    def _fields(self, image_id: str, regions: RegionBatch) -> list[bytes]:
        """Return the columns of one image."""

    def commit(self) -> State:
        """Flush the lines to disk, and return a state to resume from."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return {"images": self._images, "bytes": self._file.tell()}

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Tsv10Export(_TsvExport):
    """Writer for LXMERT's ten columns."""

    def _fields(self, image_id: str, regions: RegionBatch) -> list[bytes]:
        height, width = sizes_of(regions)
        count = len(regions.boxes)
        return [
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


class Tsv6Export(_TsvExport):
    """Writer for the original six columns, which have the width before the height."""

    def _fields(self, image_id: str, regions: RegionBatch) -> list[bytes]:
        height, width = sizes_of(regions)
        count = len(regions.boxes)
        sizes = [b"%d" % width, b"%d" % height, b"%d" % count]
        arrays = [_base64(values, count, "<f4") for values in (regions.boxes, regions.visual_feats)]
        return [_quoted(image_id).encode(), *sizes, *arrays]


def _problem(image_id: str) -> str:
    if "\n" in image_id or "\r" in image_id or not image_id:
        return "is empty or has a line break, which a TSV cannot represent; export to OUT.h5"
    return ""


def _base64(values: np.ndarray | None, count: int, kind: DTypeLike) -> bytes:
    """Encode numbers as base64; None is encoded as ``count`` zeros."""
    array = np.zeros(count, kind) if values is None else np.ascontiguousarray(values, kind)
    return binascii.b2a_base64(array.data if array.size else b"", newline=False)


def _quoted(image_id: str) -> str:
    # The csv module quotes fields that contain the delimiter or a quotation mark.
    if '"' in image_id or "\t" in image_id:
        return '"' + image_id.replace('"', '""') + '"'
    return image_id
