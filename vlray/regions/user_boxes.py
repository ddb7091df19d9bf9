"""Boxes that the user gives instead of a detector's: matched to the images, and checked.

Shapes: M boxes of all images, R boxes of one image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Float64

from vlray.regions.schema import BOX
from vlray.regions.user_box_files import read_rows

# Published boxes are rounded in many ways, and some count their last pixel twice.
TOLERANCE = 1.0


@dataclass(frozen=True, eq=False)
class GivenBoxes:
    """Boxes by image, in the order in which they were given.

    Attributes:
        image_ids: Strings in ascending order; each has at least one box.
        boxes: A list for each of them: ``x1, y1, x2, y2`` in pixels of the original image.
        sha256: Of the two together, whatever file they came from.
    """

    image_ids: pa.Array
    boxes: pa.ListArray
    sha256: str

    def __len__(self) -> int:
        """Give the number of boxes."""
        return len(self.boxes.flatten())

    def of(self, image_ids: pa.ChunkedArray) -> pa.ListArray:
        """Give each of these images its boxes; null where it has none."""
        return self.boxes.take(pc.index_in(image_ids, value_set=self.image_ids).combine_chunks())

    def not_among(self, image_ids: pa.ChunkedArray) -> list[str]:
        """List the ids that have boxes but are none of these images."""
        known = pc.is_in(self.image_ids, value_set=image_ids.combine_chunks())
        unknown: list[str] = self.image_ids.filter(pc.invert(known)).to_pylist()
        return unknown


def read_boxes(place: str, name_images: Callable[[Sequence[str]], list[str]]) -> GivenBoxes:
    """Read boxes from a file or an output.

    Args:
        place: A local path or a URI: Parquet, CSV, TSV, JSON lines, COCO's JSON, or the folder of
            an output; which of them is told by its content.
        name_images: Turns names of files into image ids, for COCO's JSON.

    Raises:
        ValueError: It is none of these, or holds no boxes in pixels.
        OSError: It cannot be read.
    """
    image_ids, coordinates = read_rows(place, name_images)
    if not len(image_ids):
        raise ValueError(f"{place} holds no boxes")
    if np.nanmax(np.abs(coordinates), initial=0) <= 1:
        raise ValueError(
            f"no box of {place} reaches beyond 1, so they are most likely fractions of the image; "
            "multiply them by its width and height: boxes are in pixels of the original image"
        )
    return gather(image_ids, coordinates)


def gather(image_ids: pa.Array, coordinates: Float64[np.ndarray, "M 4"]) -> GivenBoxes:
    """Bring the boxes of each image together; those of one image keep their order.

    Args:
        image_ids: M strings.
        coordinates: ``x1, y1, x2, y2``.
    """
    encoded = pc.dictionary_encode(image_ids)
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    codes = rank[encoded.indices.to_numpy()]
    counts = np.bincount(codes, minlength=len(order))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    with np.errstate(over="ignore"):  # infinite, and refused with its image
        rows = coordinates[np.argsort(codes, kind="stable")].astype(np.float32)
    names = encoded.dictionary.take(pa.array(order))
    digest = hashlib.sha256("\0".join(names.to_pylist()).encode())
    digest.update(counts.astype("<i8").tobytes())
    digest.update(rows.astype("<f4").tobytes())
    boxes = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=BOX)
    return GivenBoxes(names, pa.ListArray.from_arrays(offsets, boxes), digest.hexdigest())


def what_is_wrong(boxes: Float32[np.ndarray, "R 4"], height: int, width: int) -> str:
    """Say which box cannot be pooled from an image of this size, and why; "" if all can.

    A box may reach beyond its image by a pixel, since many annotations do.
    """
    with np.errstate(invalid="ignore"):
        finite = np.asarray(np.isfinite(boxes).all(axis=1))
        filled = np.asarray((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        limits = np.array([width, height])
        inside = ((boxes[:, :2] >= -TOLERANCE) & (boxes[:, :2] < limits)).all(axis=1)
        inside &= ((boxes[:, 2:] <= limits + TOLERANCE) & (boxes[:, 2:] > 0)).all(axis=1)
    good = finite & filled & inside
    if good.all():
        return ""
    row = good.tolist().index(False)
    problem = f"outside its {width}x{height} image"
    if not finite[row]:
        problem = "not finite"
    elif not filled[row]:
        problem = "empty"
    return (
        f"given box {row} of {len(boxes)} is {boxes[row].tolist()}, {problem}; give x1, y1, x2, y2 "
        "in pixels of the original image"
    )
