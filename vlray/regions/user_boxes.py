"""Read user boxes, which replace a detector's boxes; match them to the images, and check them.

Shapes: M: boxes of all images together; R: boxes in one image.
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

# In pixels. Published boxes are rounded in many ways, and some end one pixel past the edge.
TOLERANCE = 1.0


@dataclass(frozen=True, eq=False)
class UserBoxes:
    """User boxes, grouped by image; each image's boxes keep their order.

    Attributes:
        image_ids: Ids of the images with boxes, sorted.
        boxes: One list of boxes per id: ``x1, y1, x2, y2`` in pixels of the original image.
        sha256: Digest of the ids and boxes; does not depend on the file format.
    """

    image_ids: pa.Array
    boxes: pa.ListArray
    sha256: str

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.boxes.flatten())

    def of(self, image_ids: pa.ChunkedArray) -> pa.ListArray:
        """Return the list of boxes for each image; null if an image has no boxes."""
        return self.boxes.take(pc.index_in(image_ids, value_set=self.image_ids).combine_chunks())

    def not_among(self, image_ids: pa.ChunkedArray) -> list[str]:
        """Return the ids that have boxes but are not among ``image_ids``."""
        is_listed = pc.is_in(self.image_ids, value_set=image_ids.combine_chunks())
        unknown: list[str] = self.image_ids.filter(pc.invert(is_listed)).to_pylist()
        return unknown


def read_boxes(path: str, name_images: Callable[[Sequence[str]], list[str]]) -> UserBoxes:
    """Read user boxes from a file or from a vlray output.

    Args:
        path: A local path or a URI of a Parquet, CSV, TSV or JSON lines file, COCO's JSON, or an
            output folder. The format is detected from the content.
        name_images: Function that maps file names to image ids, for COCO's JSON.

    Raises:
        ValueError: The file has none of these formats, has no boxes, or has boxes that are
            fractions rather than pixels.
        OSError: The file does not exist or cannot be read.
    """
    image_ids, coordinates = read_rows(path, name_images)
    if not len(image_ids):
        raise ValueError(f"{path} contains no boxes; pass one of these:\n{FORMATS}")
    if np.nanmax(np.abs(coordinates), initial=0) <= 1:
        raise ValueError(
            f"all coordinates in {path} are at most 1, so they are most likely fractions of the "
            "image; multiply them by its width and height to get pixels of the original image"
        )
    return gather(image_ids, coordinates)


def gather(image_ids: pa.Array, coordinates: Float64[np.ndarray, "M 4"]) -> UserBoxes:
    """Group boxes by image; each image's boxes keep their order.

    Args:
        image_ids: Image id of each box, M strings.
        coordinates: ``x1, y1, x2, y2`` in pixels of the original image.
    """
    # Replace ids with their rank: one stable integer sort then groups millions of boxes.
    encoded = pc.dictionary_encode(image_ids)
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    codes = rank[encoded.indices.to_numpy()]
    counts = np.bincount(codes, minlength=len(order))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    with np.errstate(over="ignore"):  # overflow becomes inf, which describe_invalid_box reports
        rows = coordinates[np.argsort(codes, kind="stable")].astype(np.float32)
    names = encoded.dictionary.take(pa.array(order))
    # The byte order is fixed, so that the digest is the same on every machine.
    digest = hashlib.sha256("\0".join(names.to_pylist()).encode())
    digest.update(counts.astype("<i8").tobytes())
    digest.update(rows.astype("<f4").tobytes())
    boxes = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), type=BOX)
    return UserBoxes(names, pa.ListArray.from_arrays(offsets, boxes), digest.hexdigest())


def describe_invalid_box(boxes: Float32[np.ndarray, "R 4"], height: int, width: int) -> str:
    """Describe the first box that is invalid in an image of this size; "" if all are valid.

    A box may exceed the image by a pixel, as in many annotations.

    Args:
        boxes: ``x1, y1, x2, y2`` in pixels.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
    """
    # Comparisons with NaN are false; such boxes are reported as not finite.
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
        f"box {row} of {len(boxes)} is {boxes[row].tolist()}, {problem}; pass x1, y1, x2, y2 in "
        "pixels of the original image"
    )
