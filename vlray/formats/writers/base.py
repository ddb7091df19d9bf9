"""Base classes of the writers for other tools' region files.

Shapes: R: regions in one image; K: classes.
"""

from __future__ import annotations

import io
import posixpath
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from pyarrow.fs import LocalFileSystem

from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput
from vlray.storage import files

State = dict[str, int]
"""State of a writer after its last commit; ``images`` is the number of images that it covers."""

LONGEST = 200  # bytes of a file name; most file systems allow 255


class Export(ABC):
    """Writer for one format, which appends images to a file or folder.

    The constructor starts an export, or resumes from a state that an earlier ``commit`` returned.
    It raises ValueError if the format cannot represent an image id, before anything is written.
    """

    in_place: ClassVar[bool] = False
    """Whether the writer creates whole files in the final folder, instead of a file or folder that
    is renamed at the end."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """Endings of further files, which ``finish`` writes: ``OUT`` without its suffix, and these."""

    @abstractmethod
    def __init__(
        self, path: Path, output: RegionOutput, image_ids: list[str], state: State | None
    ) -> None: ...

    @abstractmethod
    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Write the next image."""

    @abstractmethod
    def commit(self) -> State:
        """Flush the written images to disk, and return a state to resume from."""

    def finish(self, path: Path) -> None:  # noqa: B027 - most formats have nothing to add
        """Write what follows the last image; ``path`` is the final path of the export."""

    def close(self) -> None:  # noqa: B027 - most writers hold no open file
        """Close the writer; committed images are kept."""


class FolderExport(Export):
    """Base class of writers that create files of their own for each image, each atomically."""

    in_place: ClassVar[bool] = True

    def __init__(
        self, path: Path, output: RegionOutput, image_ids: list[str], state: State | None
    ) -> None:
        """Start or resume an export.

        Raises:
            ValueError: An image id cannot be a file name.
        """
        check_ids(image_ids, self.problem)
        self._images = state["images"] if state else 0
        self._folder, self._fs = path, LocalFileSystem()
        path.mkdir(parents=True, exist_ok=True)
        files.remove_temporaries(self._fs, str(path))

    @staticmethod
    def problem(image_id: str) -> str:
        """Return why the format cannot represent an image id; empty if it can."""
        return file_name_problem(image_id)

    @abstractmethod
    def files_of(self, image_id: str, regions: RegionBatch) -> Iterator[tuple[str, memoryview]]:
        """Yield the path in the folder and the content of each file of one image."""

    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Write the files of the next image."""
        for name, content in self.files_of(image_id, regions):
            files.write_atomic(self._fs, str(self._folder / name), content)
        self._images += 1

    def commit(self) -> State:
        """Return a state to resume from; the images' files are on disk already."""
        return {"images": self._images}


def check_ids(image_ids: list[str], problem: Callable[[str], str]) -> None:
    """Refuse image ids that a format cannot represent.

    Raises:
        ValueError: ``problem`` returned a reason; the message names the first such id.
    """
    for image_id in image_ids:
        if reason := problem(image_id):
            raise ValueError(f"the image id {image_id!r} {reason}")


def file_name_problem(image_id: str) -> str:
    """Refuse ids that would leave the folder, be hidden or be too long."""
    if (
        posixpath.normpath(image_id) != image_id
        or image_id.startswith((".", "/"))
        or "\0" in image_id
        or any(len(name.encode()) > LONGEST for name in image_id.split("/"))
    ):
        return "is not a valid file name; export to OUT.tsv instead"
    return ""


def number_problem(image_id: str) -> str:
    """Refuse ids that consumers would not find because they look images up by number."""
    if image_id.isascii() and image_id.isdigit() and str(int(image_id)) == image_id:
        return ""
    return (
        "is not a number, by which readers of this format look up images; use --id-rule coco when "
        "you extract, or choose another format"
    )


def sizes_of(regions: RegionBatch) -> tuple[int, int]:
    """Return height and width of the only image in a batch."""
    height, width = regions.image_hw[0].tolist()
    return height, width


def class_probs_of(regions: RegionBatch) -> np.ndarray | None:
    """Return the (R, K) probabilities of all classes as float32; None without such a column."""
    probs = getattr(regions, "cls_probs", None)
    return None if probs is None else np.asarray(probs, np.float32)


def npy(values: np.ndarray) -> memoryview:
    """Encode an array as a ``.npy`` file, without pickling."""
    sink = io.BytesIO()
    np.save(sink, values, allow_pickle=False)
    return sink.getbuffer()


def npz(arrays: Mapping[str, object]) -> memoryview:
    """Encode arrays as an uncompressed ``.npz`` file; feature vectors hardly compress."""
    sink = io.BytesIO()
    np.savez(sink, **arrays)  # type: ignore[arg-type] # savez converts numbers to arrays
    return sink.getbuffer()
