"""Protocol of the readers of `vlray convert`. Imports no torch.

Shapes: R regions of one image, D feature length.
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
    """Regions of one image as the file holds them, before any correction.

    Attributes:
        image_id: Id in the file, as a string.
        boxes: (R, 4) ``x1, y1, x2, y2`` in the file's unit.
        visual_feats: (R, D).
        image_hw: Height and width in the file; None without a size.
        obj_ids: (R,) of any numeric type; None if the file has none. Likewise the next three.
        obj_names: Used instead of ``obj_ids`` if the file has words.
        attr_names: Likewise.
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
    """A row or file that cannot be read; it becomes a row of ``failures/``."""

    image_id: str
    error: str
    reason: str


class Reader(Protocol):
    """Reader of one file format, image by image, in a deterministic order.

    A position is the start of the next image: a byte in a text file, an index elsewhere. Reading
    from a position yields the same images as reading from 0 and skipping, so that a killed
    conversion can resume. Memory must not grow with the file.

    Two attributes are optional. ``unit = "B"`` tells the progress bar that positions are bytes.
    ``companions`` lists the paths of further files that belong to the source.
    """

    name: ClassVar[str]
    """Name of the format, as a value of ``--format``."""

    pickled: ClassVar[bool]
    """Whether the format needs ``--trust-pickle``."""

    end: int
    """Position after the last image."""

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Return whether the content of a file or folder, not its name, has this format."""

    def __init__(self, source: Path) -> None:
        """Open the file or folder.

        Raises:
            ValueError: It does not have this format.
        """

    def read(self, position: int = 0) -> Iterator[tuple[int, RawRegions | Unreadable]]:
        """Yield the images from a position on, each with the position after it."""
