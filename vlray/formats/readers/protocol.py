"""What a reader of somebody's file is to `vlray convert`. Imports no torch.

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
class Found:
    """Regions of one image as a file holds them: nothing is corrected yet.

    Attributes:
        image_id: As in the file, whatever its type there.
        boxes: (R, 4) ``x1, y1, x2, y2`` in the file's own unit.
        visual_feats: (R, D).
        image_hw: Height and width that the file gives; None where it gives none.
        obj_ids: (R,) of any numeric type; None where the file has none. Likewise the next three.
        obj_names: Instead of ``obj_ids``, where the file has words.
        attr_names: Likewise.
        remarks: Kinds of oddity that only the reader can see, for the report (``transposed``).
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
    """A row or file that cannot be read; it becomes a row of the failures."""

    image_id: str
    error: str
    reason: str


class Reader(Protocol):
    """Reads one form of file, image by image, in an order that is always the same.

    A position is where the next image begins: a byte in a text file, an index elsewhere. Reading
    from a position gives what reading from 0 would have given from there on, so a conversion that
    was killed goes on where it stopped. Memory does not grow with the file. A reader whose
    positions are bytes says so by ``unit = "B"``, for the progress bar. A reader that reads other
    files besides its source has their paths in ``companions``.
    """

    name: ClassVar[str]
    """What ``--format`` calls it."""

    pickled: ClassVar[bool]
    """Whether some of its content is pickled, and so wants ``--trust-pickle``."""

    end: int
    """The position behind the last image, for the progress bar."""

    @classmethod
    def recognizes(cls, source: Path) -> bool:
        """Tell by content, not by name, whether a file or folder is of this form."""

    def __init__(self, source: Path) -> None:
        """Open it.

        Raises:
            ValueError: It is not of this form.
        """

    def read(self, position: int = 0) -> Iterator[tuple[int, Found | Unreadable]]:
        """Yield each image from there on, with the position behind it."""
