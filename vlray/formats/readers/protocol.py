"""Protocol for the readers of `vlray convert`. This module does not import torch.

Shapes: R: regions in one image; D: feature length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

Labels = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class RawRegions:
    """Regions of one image as stored in the file, before any correction.

    Attributes:
        image_id: Id in the file, as a string.
        boxes: (R, 4) ``x1, y1, x2, y2`` in the file's unit.
        visual_feats: (R, D) feature vectors.
        image_hw: Height and width in the file; None if the file has no size.
        obj_ids: (R,) object ids of any numeric dtype; None if the file has none.
        obj_probs: (R,) scores of the object ids; None if the file has none.
        attr_ids: (R,) attribute ids, like ``obj_ids``.
        attr_probs: (R,) scores of the attribute ids, like ``obj_probs``.
        obj_names: R object names, instead of ``obj_ids``, if the file has words.
        attr_names: R attribute names, instead of ``attr_ids``, if the file has words.
        remarks: Flags that only the reader can set, such as ``transposed``.
    """

    image_id: str
    boxes: np.ndarray
    visual_feats: np.ndarray
    image_hw: tuple[float, float] | None = None
    obj_ids: np.ndarray | None = None
    obj_probs: np.ndarray | None = None
    attr_ids: np.ndarray | None = None
    attr_probs: np.ndarray | None = None
    obj_names: Labels | None = None
    attr_names: Labels | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unreadable:
    """An image that cannot be read; it becomes a row in ``failures/``.

    Attributes:
        image_id: Id in the file, or a description of the place if the id is unreadable.
        error: Class of the error.
        reason: Why the image cannot be read.
    """

    image_id: str
    error: str
    reason: str


class Reader(Protocol):
    """Reader for one file format, image by image, in a deterministic order.

    A position is where the next image starts: a byte offset in a text file, an index elsewhere.
    Reading from a position must yield the same images as reading from 0 and skipping, so that an
    interrupted conversion can resume. Memory use must not grow with the file.

    Three attributes are optional: ``unit = "B"`` declares that positions are bytes, for the
    progress bar; ``companions`` lists the paths of further files that belong to the source;
    ``vocabulary`` is a pair of object and attribute names, indexed by id, if the file has them.
    """

    name: ClassVar[str]
    """Name of the format, as a value of ``--format``."""

    pickled: ClassVar[bool]
    """Whether the format needs ``--trust-pickle``."""

    end: int
    """Position after the last image."""

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether a file or folder has this format, judged by content and not by name."""

    def __init__(self, source: Path) -> None:
        """Open the file or folder.

        Raises:
            ValueError: The file or folder does not have this format.
        """

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, each with the position after it."""
