"""User boxes, which replace a detector's: read, matched to the images, and checked.

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
from vlray.regions.user_box_files import FORMATS, read_rows

# Pixels. Published boxes are rounded in many ways, and some include the pixel after the last one.
TOLERANCE = 1.0


@dataclass(frozen=True, eq=False)
class UserBoxes:
    """User boxes by image; the boxes of an image keep their order.

    Attributes:
        image_ids: Sorted ids of the images with boxes.
        boxes: A list of boxes for each id: ``x1, y1, x2, y2`` in pixels of the original image.
        sha256: Digest of ids and boxes; it does not depend on the file format.
    """

    image_ids: pa.Array
    boxes: pa.ListArray
    sha256: str

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.boxes.flatten())

    def of(self, image_ids: pa.ChunkedArray) -> pa.ListArray:
        """Return the boxes of each image; null for an image without boxes."""
        return self.boxes.take(pc.index_in(image_ids, value_set=self.image_ids).combine_chunks())

    def not_among(self, image_ids: pa.ChunkedArray) -> list[str]:
        """List the ids with boxes that are not among these images."""
        is_listed = pc.is_in(self.image_ids, value_set=image_ids.combine_chunks())
        unknown: list[str] = self.image_ids.filter(pc.invert(is_listed)).to_pylist()
        return unknown


def read_boxes(path: str, name_images: Callable[[Sequence[str]], list[str]]) -> UserBoxes:
    """Read boxes from a file or an output.

    Args:
        path: A local path or a URI: Parquet, CSV, TSV, JSON lines, COCO's JSON, or the folder of
            an output. The format is detected from the content.
        name_images: Maps file names to image ids, for COCO's JSON.

    Raises:
        ValueError: It has none of these formats, or no boxes in pixels.
        OSError: It cannot be read.
    """
    image_ids, coordinates = read_rows(path, name_images)
    if not len(image_ids):
        raise ValueError(f"{path} has no boxes; give\n{FORMATS}")
    if np.nanmax(np.abs(coordinates), initial=0) <= 1:
        raise ValueError(
            f"all coordinates in {path} are at most 1, so they are most likely fractions of the "
            "image; multiply them by its width and height to get pixels of the original image"
        )
    return gather(image_ids, coordinates)


def gather(image_ids: pa.Array, coordinates: Float64[np.ndarray, "M 4"]) -> UserBoxes:
    """Group boxes by image; the boxes of an image keep their order.

    Args:
        image_ids: The id of each box's image, M strings.
        coordinates: ``x1, y1, x2, y2`` in pixels.
    """
    # Dictionary codes in sorted order make one stable sort group millions of boxes.
    encoded = pc.dictionary_encode(image_ids)
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    codes = rank[encoded.indices.to_numpy()]
    counts = np.bincount(codes, minlength=len(order))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    with np.errstate(over="ignore"):  # becomes infinite, and describe_invalid_box refuses it
        rows = coordinates[np.argsort(codes, kind="stable")].astype(np.float32)
    names = encoded.dictionary.take(pa.array(order))
    digest = hashlib.sha256("\0".join(names.to_pylist()).encode())
    digest.update(counts.astype("<i8").tobytes())
    digest.update(rows.astype("<f4").tobytes())
    boxes = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=BOX)
    return UserBoxes(names, pa.ListArray.from_arrays(offsets, boxes), digest.hexdigest())


def describe_invalid_box(boxes: Float32[np.ndarray, "R 4"], height: int, width: int) -> str:
    """Describe the first box that is invalid for an image of this size; "" if all are valid.

    A box may extend beyond its image by a pixel, as in many annotations.
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
        f"box {row} of {len(boxes)} is {boxes[row].tolist()}, {problem}; give x1, y1, x2, y2 "
        "in pixels of the original image"
    )
