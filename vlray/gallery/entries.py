"""Images and regions of an output, read without the feature vectors.

Shapes: R: regions of the image; L: same as R, or 0 if the output lacks the column.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int32
from numpy.typing import DTypeLike

from vlray.regions.output import RegionOutput

COLUMNS = (
    "image_id",
    "path",
    "split",
    "image_height",
    "image_width",
    "num_boxes",
    "boxes",
    "obj_ids",
    "obj_probs",
    "attr_ids",
    "attr_probs",
)
BATCH_SIZE = 256


@dataclass(frozen=True, eq=False)
class Entry:
    """One image and its regions, best score first.

    Attributes:
        image_id: Id of the image.
        path: Path of the image, as stored in the output.
        split: Split of the image; may be empty.
        height: Height of the original image, pixels.
        width: Width of the original image, pixels.
        boxes: ``(x1, y1, x2, y2)`` in pixels of the original image.
        obj_ids: Object classes; empty if the detector has no class head.
        obj_probs: Probabilities of the classes; may also be empty in a converted output.
        attr_ids: Attributes; empty if the detector has no attribute head.
        attr_probs: Probabilities of the attributes.
    """

    image_id: str
    path: str
    split: str
    height: int
    width: int
    boxes: Float32[np.ndarray, "R 4"]
    obj_ids: Int32[np.ndarray, " L"]
    obj_probs: Float32[np.ndarray, " L"]
    attr_ids: Int32[np.ndarray, " L"]
    attr_probs: Float32[np.ndarray, " L"]

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.boxes)

    def above(self, min_score: float) -> Entry:
        """Keep only regions with at least this score; if there are no scores, keep all regions."""
        if not len(self.obj_probs):
            return self
        # Regions are sorted by descending score, so a prefix is enough.
        # Compare in float32: a score stored as 0.3 must reach a threshold of 0.3.
        count = int((self.obj_probs >= np.float32(min_score)).sum())
        return Entry(
            self.image_id,
            self.path,
            self.split,
            self.height,
            self.width,
            self.boxes[:count],
            self.obj_ids[:count],
            self.obj_probs[:count],
            self.attr_ids[:count],
            self.attr_probs[:count],
        )


def read_entries(
    output: RegionOutput, *, split: Sequence[str] = (), limit: int = 0
) -> Iterator[Entry]:
    """Yield the images of an output in file order.

    Args:
        output: The output to read.
        split: Splits to read; empty means all.
        limit: Maximum number of images; 0 means all.
    """
    remaining = limit or -1  # -1 never reaches 0: no limit
    for batch in output.iter_batches(COLUMNS, batch_size=BATCH_SIZE):
        for entry in _entries(batch):
            if split and entry.split not in split:
                continue
            yield entry
            remaining -= 1
            if remaining == 0:
                return


def file_names(image_ids: Sequence[str]) -> list[str]:
    """Derive a unique file name from each image id, valid on any file system.

    An id of up to 120 letters, digits, ``.``, ``_`` and ``-`` that does not start with ``.`` or
    ``-`` stays as it is. In any other id, special characters become ``_``, the result is cut to 80
    characters, and a hash of the id is appended. Ids that differ only in case also get a hash,
    because some file systems ignore case.
    """
    folded: dict[str, int] = {}
    for image_id in image_ids:
        # The ids are counted first, because a later one may collide with an earlier one.
        folded[image_id.casefold()] = folded.get(image_id.casefold(), 0) + 1
    names = []
    for image_id in image_ids:
        plain = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,119}", image_id)
        if plain and folded[image_id.casefold()] == 1:
            names.append(image_id)
        else:
            stem = re.sub(r"[^A-Za-z0-9_-]+", "_", image_id)[:80] or "image"
            names.append(f"{stem}.{hashlib.sha256(image_id.encode()).hexdigest()[:16]}")
    return names


def _entries(batch: pa.RecordBatch) -> Iterator[Entry]:
    ids, paths, splits = (batch.column(name).to_pylist() for name in COLUMNS[:3])
    heights, widths = (batch.column(name).to_pylist() for name in COLUMNS[3:5])
    boxes = _rows(batch.column("boxes"), np.float32)
    labels = [
        _rows(batch.column(name), dtype)
        for name, dtype in zip(COLUMNS[7:], (np.int32, np.float32) * 2, strict=True)
    ]
    for row, image_id in enumerate(ids):
        columns = [values[row] for values in labels]
        probs = columns[1]
        # A stable sort keeps the detector's order among equal scores.
        order = np.argsort(-probs, kind="stable") if len(probs) else slice(None)
        yield Entry(
            image_id,
            paths[row],
            splits[row] or "",
            heights[row],
            widths[row],
            boxes[row].reshape(-1, 4)[order],
            *(values[order] if len(values) else values for values in columns),
        )


def _rows(column: pa.Array, dtype: DTypeLike) -> list[np.ndarray]:
    """Split a list column into one flat array per row."""
    # A slice shares the buffers of the whole column, so its offsets may start beyond zero.
    offsets = column.offsets.to_numpy()
    values = column.flatten()
    if pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
        # These offsets count boxes, and each box has four numbers.
        offsets = offsets * 4
    flat = values.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return np.split(flat, offsets[1:-1] - offsets[0])
