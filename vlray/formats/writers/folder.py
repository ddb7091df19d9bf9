"""Writer for a folder with one file per image."""

from __future__ import annotations

import posixpath
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from pyarrow.fs import LocalFileSystem

from vlray.regions.batch import RegionBatch
from vlray.regions.output import RegionOutput
from vlray.storage import files

LONGEST = 200  # bytes of a file name; most file systems allow 255


class FolderExport(ABC):
    """Writer that creates one file per image, each atomically."""

    ending: ClassVar[str]
    """Ending of the files' names."""

    def __init__(
        self,
        path: Path,
        output: RegionOutput,
        image_ids: list[str],
        state: dict[str, int] | None,
    ) -> None:
        """Start or resume an export.

        Raises:
            ValueError: An image id cannot be a file name.
        """
        for image_id in image_ids:
            # Refuse ids that would leave the folder, be hidden or be too long.
            if (
                posixpath.normpath(image_id) != image_id
                or image_id.startswith((".", "/"))
                or "\0" in image_id
                or any(len(name.encode()) > LONGEST for name in image_id.split("/"))
            ):
                raise ValueError(
                    f"the image id {image_id!r} is not a valid file name; export to OUT.tsv instead"
                )
        self._images = state["images"] if state else 0
        self._folder, self._fs = path, LocalFileSystem()
        path.mkdir(parents=True, exist_ok=True)
        files.remove_temporaries(self._fs, str(path))

    @abstractmethod
    def encode(self, image_id: str, regions: RegionBatch) -> bytes | memoryview:
        """Return the content of an image's file."""

    def add(self, image_id: str, regions: RegionBatch) -> None:
        """Write the file of the next image."""
        content = self.encode(image_id, regions)
        files.write_atomic(self._fs, str(self._folder / f"{image_id}{self.ending}"), content)
        self._images += 1

    def commit(self) -> dict[str, int]:
        """Return a state to resume from; the images' files are on disk already."""
        return {"images": self._images}

    def close(self) -> None:  # noqa: B027 - no format needs more
        """Do nothing; no file is open."""
